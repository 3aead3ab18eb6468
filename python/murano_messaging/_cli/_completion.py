"""``completion bash|zsh``: the words of the command line, for the shell."""

from __future__ import annotations

import argparse
from typing import Any

_SCRIPT = """\
{zsh}_murano_messaging() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{cases}
    *) words="{commands}" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -F _murano_messaging murano-messaging
"""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "completion",
        help="print the completion for bash or zsh",
        description='Print the completion: eval "$(murano-messaging completion bash)" in ~/.bashrc, zsh in ~/.zshrc.',
    )
    parser.add_argument("shell", choices=("bash", "zsh"))
    parser.set_defaults(run=lambda arguments: _completion(arguments, commands.choices))


def _options(parser: argparse.ArgumentParser) -> str:
    return " ".join(option for action in parser._actions for option in action.option_strings if option.startswith("--"))


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _completion(arguments: argparse.Namespace, commands: dict[str, argparse.ArgumentParser]) -> int:
    cases = []
    for name, parser in commands.items():
        inner = _actions(parser)
        cases += [f'    "{name} {action}") words="{_options(of)}" ;;' for action, of in inner.items()]
        cases.append(f'    "{name} "*) words="{" ".join(inner) if inner else _options(parser)}" ;;')
    zsh = "autoload -U +X bashcompinit && bashcompinit\n" if arguments.shell == "zsh" else ""
    print(_SCRIPT.format(zsh=zsh, cases="\n".join(cases), commands=" ".join(commands)), end="")
    return 0
