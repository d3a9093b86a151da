# SPDX-License-Identifier: MulanPSL-2.0
"""libdcmi fills every struct, array and number with random bytes: sane values, or none at all."""

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.libdcmi import check_dcmi_chip, check_dcmi_event, check_dcmi_list

# What drivers have for "no value", and the edges of what is carried.
WORDS = (b"\0", b"\xff", b"\x7f", b"\x01", struct.pack("<Q", 2**63), struct.pack("<Q", 2**40))
NOISE = st.one_of(
    st.binary(max_size=64),
    st.lists(st.sampled_from(WORDS), max_size=64).map(b"".join),
    st.binary(min_size=2048, max_size=2048),
)


@given(NOISE)
@example(b"\xff")
@example(b"\x7f")
def test_nothing_impossible_is_told_of_a_chip(data: bytes) -> None:
    check_dcmi_chip(data)


@given(NOISE)
@example(b"\0")
@example(b"\0\0\0\x01\0\0\0\0\x01\0\0")  # one card, two chips, both with the number 0
def test_no_number_has_two_chips(data: bytes) -> None:
    check_dcmi_list(data)


@given(NOISE)
@example(b"\xff")
def test_an_event_of_noise_is_one_that_a_client_understands(data: bytes) -> None:
    check_dcmi_event(data)
