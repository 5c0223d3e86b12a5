#!/usr/bin/env bash
# Builds the images dad-trainer and dad-pipeline, tagged with the project's version, with docker, podman or buildah.
#
#   docker/build.sh                                           # both, with the first engine found
#   docker/build.sh trainer                                   # one
#   docker/build.sh --ca corporate-ca.pem --pip-config pip.conf    # behind a proxy or with another package index
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
. docker/engine.sh

usage() {
    cat <<'END'
docker/build.sh [options] [trainer] [pipeline]

  --engine NAME      docker, podman or buildah; by default the first of them that works here
  --base IMAGE       Debian image to start from; by default the Dockerfile's (python:3.11-slim works, too)
  --ca FILE          certificates that pip trusts during the build; not kept in the image
  --pip-config FILE  pip.conf for the build; not kept in the image
END
}

engine=
options=()
targets=()
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) usage && exit ;;
    --engine | --base | --ca | --pip-config)
        [ $# -ge 2 ] || complain "$1: a value is missing"
        case "$1" in
        --engine) engine=$2 ;;
        --base) options+=(--build-arg "BASE=$2") ;;
        --ca | --pip-config)
            file=$(from_caller "$2")
            [ -f "$file" ] || complain "$1 $2: no such file"
            id=${1#--}
            options+=(--secret "id=${id%-config},src=$file")
            ;;
        esac
        shift 2
        ;;
    trainer | pipeline) targets+=("$1") && shift ;;
    *) complain "$1: allowed are the images trainer and pipeline, and the options that --help names" ;;
    esac
done
[ -n "$engine" ] || engine=$(find_engine)
check_engine "$engine"
[ ${#targets[@]} -gt 0 ] || targets=(trainer pipeline)

version=$(project_version)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
options+=(--file docker/Dockerfile --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
case "$engine" in
docker)
    command=(docker build)
    export DOCKER_BUILDKIT=1
    ;;
# Images in OCI's own format have no health check.
podman | buildah) command=("$engine" build --layers --format docker) ;;
esac

for target in "${targets[@]}"; do
    "${command[@]}" "${options[@]}" --target "$target" --tag "dad-$target:$version" .
    echo "built dad-$target:$version with $engine"
done
