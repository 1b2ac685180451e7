#!/bin/sh
# LiteLLM's proxy, installed once and kept in a cache folder.
#
#   litellm.sh           only sees to it that it is there
#   litellm.sh CONFIG    starts it on a free port; its first line of output is the address
#
# It is started again when it ends, for it has been seen to crash under load.
set -eu

version=1.106.2
cache=${O3MAGIC_REAL_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/o3magic-real-servers}
venv=$cache/litellm
python=$venv/bin/python

if [ ! -x "$python" ] || ! "$python" -c "import litellm, litellm.proxy, fastapi" 2>/dev/null; then
    mkdir -p "$cache"
    python3 -m venv "$venv"
    nice -n 19 "$python" -m pip install --quiet "litellm[proxy]==$version" >&2
fi

[ $# -gt 0 ] || exit 0

port=$("$python" -c "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])")
echo "http://127.0.0.1:$port"
export LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_TELEMETRY=False NO_PROXY=127.0.0.1,localhost
cd "$(dirname "$1")"
for start in 1 2 3 4 5; do
    echo "start $start" >&2
    "$venv/bin/litellm" --config "$1" --host 127.0.0.1 --port "$port" --telemetry False >&2 || true
done
