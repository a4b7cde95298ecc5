"""The settings of engines: their fields, where the server of each is, and which key it gets."""
