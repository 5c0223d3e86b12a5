#!/bin/sh
# pip for the environment /opt/dad, with the certificates and settings that the build was given as secrets.
set -eu
if [ -s /run/secrets/ca ]; then
    export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca
fi
if [ -s /run/secrets/pip ]; then
    export PIP_CONFIG_FILE=/run/secrets/pip
fi
exec /opt/tools/bin/pip --disable-pip-version-check --no-input --python /opt/dad/bin/python "$@"
