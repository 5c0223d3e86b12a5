#!/usr/bin/env bash
# Runs the demo, or another recipe with committed figures, from the images, and compares what comes out with the figures.
#
#   docker/reproduce.sh demo
#   docker/reproduce.sh cifar10 --data DIR       # DIR/cifar10 holds the Parquet files
#
# The exit status is 0 where all figures agree, 1 where one differs or a step failed, 2 for a mistake on the command line.
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
. docker/engine.sh

usage() {
    cat <<'END'
docker/reproduce.sh [options] NAME | FILE.json

  NAME           what docker/expected/NAME.json describes; FILE.json: your own, written in the same way
  --list         the names
  --data DIR     clean datasets, seen by the recipes as data/ (read only); by default data
  --weights DIR  published weights, seen as weights/ (read only); by default weights
  --out DIR      what is made, kept, and continued on the next call; by default runs/reproduced/NAME
  --engine NAME  docker, podman or buildah; by default the first of them that works here
  --gpus         give the containers the machine's GPUs (docker and podman)
  --compare      run nothing, compare what --out holds already
END
}

names() {
    for file in docker/expected/*.json; do basename "$file" .json; done
}

engine=
name=
data=data
weights=weights
out=
gpus=
run_steps=yes
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) usage && exit ;;
    --list) names && exit ;;
    --gpus) gpus=yes && shift ;;
    --compare) run_steps= && shift ;;
    --engine | --data | --weights | --out)
        [ $# -ge 2 ] || complain "$1: a value is missing"
        case "$1" in
        --engine) engine=$2 ;;
        --data) data=$(from_caller "$2") && { [ -d "$data" ] || complain "--data $2: no such folder"; } ;;
        --weights) weights=$(from_caller "$2") && { [ -d "$weights" ] || complain "--weights $2: no such folder"; } ;;
        --out) out=$(from_caller "$2") ;;
        esac
        shift 2
        ;;
    -*) complain "$1: no such option; --help names them" ;;
    *) [ -z "$name" ] || complain "$1: one name at a time" && name=$1 && shift ;;
    esac
done
[ -n "$name" ] || complain "which reproduction? $(names | paste -sd ' '), or a JSON file"
case "$name" in
*.json) expected=$(from_caller "$name") && name=$(basename "$name" .json) ;;
*) expected=docker/expected/$name.json ;;
esac
[ -f "$expected" ] || complain "$name: no figures are committed for it; there are: $(names | paste -sd ' ')"
[ -n "$engine" ] || engine=$(find_engine)
check_engine "$engine"
[ -z "$gpus" ] || [ "$engine" != buildah ] || complain "--gpus: buildah gives no GPU to a container"

version=$(project_version)
for image in pipeline trainer; do
    case "$engine" in
    buildah) look=(buildah inspect --type image) ;;
    *) look=("$engine" image inspect) ;;
    esac
    "${look[@]}" "dad-$image:$version" >/dev/null 2>&1 || complain "dad-$image:$version: no such image; docker/build.sh makes it"
done

out=${out:-runs/reproduced/$name}
mkdir -p "$out"
mounts=(
    --volume "$(realpath "$out"):/dad/runs"
    --volume "$PWD/docker/figures.py:/dad/figures.py:ro"
    --volume "$(realpath "$expected"):/dad/expected.json:ro"
)
[ ! -d "$data" ] || mounts+=(--volume "$(realpath "$data"):/dad/data:ro")
[ ! -d "$weights" ] || mounts+=(--volume "$(realpath "$weights"):/dad/weights:ro")
user=(--user "$(id -u):$(id -g)")

# buildah has no `run IMAGE`: one container of each image serves all steps, and is removed in the end.
declare -A containers
if [ "$engine" = buildah ]; then
    trap '[ ${#containers[@]} -eq 0 ] || buildah rm "${containers[@]}" >/dev/null' EXIT
    for image in pipeline trainer; do
        containers[$image]=$(buildah from --pull-never "dad-$image:$version")
    done
fi

in_image() {
    local image=$1
    shift
    local options=("${mounts[@]}" "${user[@]}")
    case "$engine" in
    buildah)
        buildah run "${options[@]}" "${containers[$image]}" -- "$@"
        return
        ;;
    docker) [ -z "$gpus" ] || options+=(--gpus all) ;;
    podman)
        options+=(--userns keep-id)
        [ -z "$gpus" ] || options+=(--device nvidia.com/gpu=all)
        ;;
    esac
    "$engine" run --rm --interactive --shm-size 2g "${options[@]}" "dad-$image:$version" "$@"
}

if [ -n "$run_steps" ]; then
    steps=$(in_image pipeline python figures.py steps expected.json)
    while IFS=$'\t' read -r -a step <&3; do
        echo "dad-${step[0]}: ${step[*]:1}"
        in_image "${step[@]}" || { echo "this step failed; the same command continues" >&2 && exit 1; }
    done 3<<<"$steps"
fi
in_image pipeline python figures.py compare expected.json
