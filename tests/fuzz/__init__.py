# SPDX-License-Identifier: MulanPSL-2.0
"""Whatever comes from outside, mutated by how much of our code it reaches.

`python -m tests.fuzz TARGET --minutes N` looks for new trouble with atheris; what has been found
interesting is kept in corpus/ and goes through the same functions in the ordinary suite
(tests/unit/test_fuzz_corpus.py), without atheris.
"""
