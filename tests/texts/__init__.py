# SPDX-License-Identifier: MulanPSL-2.0
"""Texts that are made of others: manual pages, shell completion, docs/configuration.md.

In: the parsers of deepseekctl, the schema, etc/*.toml, docs/man/*.md. Out: what is committed beside
them, so that the package is built without these tools. `make texts` writes it, tests/static looks
whether it is fresh.
"""
