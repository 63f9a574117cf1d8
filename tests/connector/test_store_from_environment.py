"""The store's URL may come through the environment: a command line can be read by everybody."""

import pytest

from harness.connector.settings import parse_settings
from harness.core.errors import UsageError


def test_a_name_with_a_dollar_is_the_variable_s_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_STORE", "mem://from-there")
    settings, _ = parse_settings({"store": "$MY_STORE"})
    assert settings.store == "mem://from-there"


def test_one_that_is_not_set_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_STORE", raising=False)
    with pytest.raises(
        UsageError, match=r"^the connector's store is the environment variable MY_STORE, which is not set; set it"
    ):
        parse_settings({"store": "$MY_STORE"})
