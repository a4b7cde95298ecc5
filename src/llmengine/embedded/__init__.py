"""A real small model behind llama.cpp's own HTTP server, on loopback, without a GPU.

`models` finds or downloads the model, `server` runs it. Importing this package loads no native
code, starts nothing and downloads nothing.
"""
