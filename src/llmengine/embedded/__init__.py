"""A small model behind llama.cpp's own HTTP server, on a loopback port, without a GPU.

`models` finds or downloads the model, `server` runs it. Importing this package loads no native
code, starts no process and downloads nothing.
"""
