"""Phone numbers: E.164 and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyquorum.auth.sms_code import normalise
from keyquorum.refusal import Invalid


@pytest.mark.parametrize("number", ["+1234567", "+4915123456789", "+123456789012345"])
def test_a_number_in_e164_is_its_own_name(number: str) -> None:
    assert normalise(number) == number


@pytest.mark.parametrize(
    "given",
    [
        "",
        "+",
        "4915123456789",
        "004915123456789",
        "+0915123456789",
        "+123456",
        "+1234567890123456",
        "+49 151 23456789",
        "+49-151-23456789",
        " +4915123456789",
        "+4915123456789\n",
        "+49151234567a9",
        "+٤٩١٥١٢٣٤٥٦٧٨٩",
        "++4915123456789",
        "tel:+4915123456789",
    ],
)
def test_everything_else_is_refused(refused: Callable[..., Any], given: str) -> None:
    with refused("bad_mail_or_phone", 400):
        normalise(given)


@pytest.mark.parametrize(
    ("dialled", "hint"),
    [
        ("+6104312345678", "+6143"),
        ("+4407911123456", "+4479"),
        ("+49015123456789", "+4915"),
        ("+353087123456", "+35387"),
    ],
)
def test_the_zero_that_is_dialled_inside_a_country_makes_no_second_identity(dialled: str, hint: str) -> None:
    with pytest.raises(Invalid, match="begins with 0 behind") as caught:
        normalise(dialled)
    assert "leave out the 0" in caught.value.hint and hint + "..." in caught.value.hint


@pytest.mark.parametrize("number", ["+390612345678", "+2250701234567", "+37806123456", "+24106123456", "+242061234567"])
def test_where_numbers_begin_with_zero_it_stays(number: str) -> None:
    assert normalise(number) == number
