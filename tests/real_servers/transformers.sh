#!/bin/sh
# `transformers serve`, installed once with torch and kept in a cache folder.
#
#   transformers.sh             only sees to it that it is there
#   transformers.sh python ...  the python beside it
#   transformers.sh MODEL       serves a model's folder on a free port; its first line is the address
set -eu

cache=${O3MAGIC_REAL_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/o3magic-real-servers}
venv=$cache/transformers
python=$venv/bin/python

if [ ! -x "$python" ] || ! "$python" -c "import fastapi, torch, transformers" 2>/dev/null; then
    mkdir -p "$cache"
    python3 -m venv "$venv"
    nice -n 19 "$python" -m pip install --quiet torch==2.13.0 "transformers[serving]==5.23.0" >&2
fi

[ $# -gt 0 ] || exit 0
if [ "$1" = python ]; then
    shift
    exec "$python" "$@"
fi

port=$("$python" -c "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])")
echo "http://127.0.0.1:$port"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=2
exec "$venv/bin/transformers" serve "$1" --host 127.0.0.1 --port "$port" --device cpu >&2
