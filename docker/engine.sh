# shellcheck shell=bash
# Sourced by build.sh and reproduce.sh, which set `caller`: which container engine is here, and other things both need.

# A path on the command line starts where the caller is, whom the script has left for the repository's root.
from_caller() {
    : "${caller:?}"
    case "$1" in
    /*) echo "$1" ;;
    *) echo "$caller/$1" ;;
    esac
}

complain() {
    echo "error: $1" >&2
    exit 2
}

# The first engine that works: a docker client without its daemon does not.
find_engine() {
    if docker info >/dev/null 2>&1; then
        echo docker
    elif command -v podman >/dev/null; then
        echo podman
    elif command -v buildah >/dev/null; then
        echo buildah
    else
        complain "found no container engine: install docker, podman or buildah"
    fi
}

check_engine() {
    case "$1" in
    docker | podman | buildah) command -v "$1" >/dev/null || complain "--engine $1: not installed here" ;;
    *) complain "--engine $1: allowed are docker, podman and buildah" ;;
    esac
}

project_version() {
    sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml
}
