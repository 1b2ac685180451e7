"""o3magic against servers that other people wrote, on this machine and with random weights.

    python -m pytest -m real_servers tests/real_servers

Without the marker they are left out. Each server is built or installed once, into a cache folder
($O3MAGIC_REAL_SERVERS, or o3magic-real-servers in the user's cache), by the script beside the
tests; where that cannot be done, for want of a compiler or of a network, its tests are skipped and
say why. No model is downloaded: the weights are made here, out of random numbers.

    llamacpp.sh       llama-server: Chat, schemas, tools, `/slots`     12 CPU minutes, 100 MB
    litellm.sh        LiteLLM's proxy: Chat, Responses, its errors     5 minutes, 750 MB
    transformers.sh   `transformers serve`: Responses streams          10 minutes, 1.5 GB

The scripts may be run by hand: without arguments they only see to it that the server is there.
"""
