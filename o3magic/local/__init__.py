"""A model on the user's own machine: its weights, and llama.cpp's server for it."""
