"""Servers in Docker containers: how they are started, shared and removed."""
