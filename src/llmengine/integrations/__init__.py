"""Integrations with other frameworks, one package per framework, imported only when used."""
