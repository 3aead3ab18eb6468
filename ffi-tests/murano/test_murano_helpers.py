"""The token sanitizer, and putting ours in the place of packages that are there."""

from __future__ import annotations

import pytest

from children import run
from muranocommon.helpers.token_sanitizer import TokenSanitizer

HIDDEN = "*** SANITIZED ***"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"token": "secret"}, {"token": HIDDEN}),
        ({"X-Auth-Token": "secret", "user": "me"}, {"X-Auth-Token": HIDDEN, "user": "me"}),
        ({"PASSWORD": "secret", "passphrase": "secret"}, {"PASSWORD": HIDDEN, "passphrase": HIDDEN}),
        ({"a": {"b": [{"adminPass": "secret"}, "token"]}}, {"a": {"b": [{"adminPass": HIDDEN}, "token"]}}),
        (("token", "secret"), ("token", HIDDEN)),
        (("name", {"token": "secret"}), ("name", {"token": HIDDEN})),
        ([("token", "secret"), ("name", "x")], [("token", HIDDEN), ("name", "x")]),
        # Text was bytes once.
        ({"token": b"secret", "name": b"me"}, {"token": HIDDEN, "name": b"me"}),
        ({b"Token": "secret", b"password": b"secret", b"x": "y"}, {b"Token": HIDDEN, b"password": HIDDEN, b"x": "y"}),
        ({"token": bytearray(b"secret")}, {"token": HIDDEN}),
        # Only text is a secret; what is inside others is looked at.
        ({"token": 5, "tokens": {"id": "x", "pass": "y"}}, {"token": 5, "tokens": {"id": "x", "pass": HIDDEN}}),
        ({"token": None, "tokens": ["x"]}, {"token": None, "tokens": ["x"]}),
        ({1: "x", None: {"token": "y"}}, {1: "x", None: {"token": HIDDEN}}),
        ("token", "token"),
        (5, 5),
        (None, None),
        ([], []),
        ({}, {}),
        ((1, 2, 3), (1, 2, 3)),
    ],
)
def test_what_is_sanitized(given, expected):
    assert TokenSanitizer().sanitize(given) == expected


def test_other_tokens_and_another_message():
    sanitizer = TokenSanitizer(tokens=("Key",), message="gone")
    assert (sanitizer.tokens, sanitizer.message) == (("Key",), "gone")
    assert sanitizer.sanitize({"apikey": "x", "token": "y"}) == {"apikey": "gone", "token": "y"}
    default = TokenSanitizer()
    assert (default.tokens, default.message) == (("token", "pass"), HIDDEN)


def test_what_was_given_is_left_as_it_was():
    given = {"token": "secret", "list": [{"pass": "secret"}]}
    TokenSanitizer().sanitize(given)
    assert given == {"token": "secret", "list": [{"pass": "secret"}]}


@pytest.fixture
def murano(tmp_path):
    """Packages as Murano's engine and agent have them, whose messaging must not be imported."""
    for name in ("murano", "muranoagent"):
        messaging = tmp_path / name / "common" / "messaging"
        messaging.mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "common" / "__init__.py").touch()
        (tmp_path / name / "common" / "config.py").write_text("CONF = 1\n")
        (messaging / "__init__.py").write_text("from . import mqclient\n")
        for module in ("mqclient", "message", "subscription"):
            (messaging / f"{module}.py").write_text("original = True\n")
    return str(tmp_path)


def test_adopt_puts_ours_in_the_place_of_the_originals(murano):
    run(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from murano_messaging import compat
        compat.adopt()
        compat.adopt()
        assert "murano" not in sys.modules

        import murano.common.messaging
        from murano.common import config, messaging
        from murano.common.messaging import MqClient, mqclient, message
        from murano.common.messaging.subscription import Subscription
        from muranoagent.common import messaging as agent
        import muranoagent.common.messaging.mqclient as agent_mqclient
        from murano_messaging.compat import murano_agent, murano_engine

        assert config.CONF == 1
        assert murano.common.messaging is messaging
        assert MqClient is mqclient.MqClient is messaging.MqClient is murano_engine.MqClient
        assert messaging.mqclient is mqclient and messaging.message is message
        assert message.Message is murano_engine.Message
        assert Subscription is murano_engine.Subscription
        assert agent.MqClient is agent_mqclient.MqClient is murano_agent.MqClient
        assert agent.Message is murano_agent.Message is not murano_engine.Message
        for name, module in sys.modules.items():
            if name.startswith("murano"):
                assert not hasattr(module, "original"), name
        """,
        murano,
    )


def test_adopt_puts_ours_in_the_place_of_the_real_ones(kombu_stack):
    run(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from murano_messaging import compat
        compat.adopt()
        # As the engine and the agent import them.
        from murano.common.i18n import _
        from murano.common.messaging import message, mqclient
        from muranoagent.common import messaging
        from murano_messaging.compat import murano_agent, murano_engine

        assert (message.Message, mqclient.MqClient) == (murano_engine.Message, murano_engine.MqClient)
        assert (messaging.Message, messaging.MqClient) == (murano_agent.Message, murano_agent.MqClient)
        assert "kombu" not in sys.modules
        """,
        kombu_stack,
    )


def test_adopt_comes_before_the_originals_are_imported(murano):
    run(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        import muranoagent.common.messaging
        from murano_messaging import compat
        try:
            compat.adopt()
        except RuntimeError as error:
            assert "muranoagent.common.messaging was imported before" in str(error), error
        else:
            raise SystemExit("it did not say so")
        from murano.common.messaging import mqclient
        assert mqclient.original
        """,
        murano,
    )


def test_adopt_does_nothing_where_murano_is_not():
    run("""
        from murano_messaging import compat
        compat.adopt()
        try:
            import muranoagent.common.messaging
        except ModuleNotFoundError as error:
            assert error.name == "muranoagent"
        else:
            raise SystemExit("there is no agent here")
    """)
