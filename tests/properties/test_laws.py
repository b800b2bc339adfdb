"""The laws over every registered preset and place: sampled here, the full product under the marker ``slow``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attnbuild
from attnbuild.attention import describe
from tests.properties.cases import CLAIMED, DIM, KINDS, REFUSED, Case, all_cases, cases, compositions
from tests.properties.laws import LAWS

Law = Callable[[Case], None]
each_claim = pytest.mark.parametrize(("preset", "kind"), CLAIMED, ids=["-".join(pair) for pair in CLAIMED])
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)


@each_law
@each_claim
@given(data=st.data())
@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow])
def test_law(law: Law, preset: str, kind: str, data: st.DataObject) -> None:
    law(data.draw(cases(preset, kind)))


@each_law
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
def test_law_of_any_composition(law: Law, kind: str, data: st.DataObject) -> None:
    """Presets are named points; a user may set any part of them."""
    law(data.draw(compositions(kind)))


@pytest.mark.slow
@each_law
@each_claim
def test_law_over_the_full_product(law: Law, preset: str, kind: str) -> None:
    for case in all_cases(preset, kind):
        law(case)


@pytest.mark.parametrize(("preset", "kind"), REFUSED, ids=["-".join(pair) for pair in REFUSED])
def test_unsupported_place_is_refused_with_the_reason(preset: str, kind: str) -> None:
    place = KINDS[kind]
    reasons = describe(preset)["reasons"].values()
    kinds = {"causal": place.causal, "sequential": place.sequential}
    with pytest.raises(attnbuild.ConfigError, match="cannot serve as") as refused:
        attnbuild.build_attention(preset, dim=DIM, memory_dim=DIM if place.cross else None, **kinds)
    assert any(reason in str(refused.value) for reason in reasons)


def test_every_preset_serves_some_place() -> None:
    assert {preset for preset, _ in CLAIMED} == set(attnbuild.list_names("attention"))
