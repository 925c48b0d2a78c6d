"""A wrong value of an option with a fixed set of values is refused in one line, for every such option there is."""

import dataclasses
from typing import Literal, get_type_hints

import pytest
import tyro

from policykd.cli.choices import check_choices, choices_of, unchecked_choices
from policykd.cli.commands import COMMANDS, DATA_COMMANDS, KD_COMMANDS, ROBOT_COMMANDS
from policykd.cli.main import main
from policykd.errors import UnknownNameError

OPTIONS = [
    (kind, f"--{name.replace('_', '-')}", choices_of(hint))
    for kind in (COMMANDS | KD_COMMANDS | DATA_COMMANDS | ROBOT_COMMANDS).values()
    for name, hint in get_type_hints(kind).items()
    if choices_of(hint)
]
NEEDED = {"Inject": ["x", "--out", "y"], "MergeWeights": ["x", "y", "--out", "z"], "Track": ["x"],
          "Finetune": ["x", "--skills", "biped/flat"], "Bisect": ["x", "--skill", "biped/flat"]}  # fmt: skip


def test_the_options_are_those_that_are_known_to_have_choices():
    found = {(kind.__name__, option) for kind, option, _ in OPTIONS}
    assert {("Merge", "--preset"), ("Plaid", "--preset"), ("Compare", "--preset"), ("Merge", "--critic")} < found


@pytest.mark.parametrize(("kind", "option", "choices"), OPTIONS, ids=[f"{k.__name__} {o}" for k, o, _ in OPTIONS])
def test_a_wrong_choice_names_the_option_the_choices_and_the_nearest(kind, option, choices):
    wrong = choices[-1][:-1] + "q" if len(choices[-1]) > 3 else choices[-1] + "q"
    given = [*NEEDED.get(kind.__name__, []), option, wrong]
    command = tyro.cli(kind, args=given, config=(tyro.conf.OmitArgPrefixes,), registry=unchecked_choices())
    with pytest.raises(UnknownNameError) as refused:
        check_choices(command)
    text = str(refused.value)
    assert text.startswith(f"unknown value of {option}: '{wrong}'; did you mean ")
    assert choices[-1] in text.partition("did you mean")[2].partition("?")[0]
    assert text.endswith(f"(valid: {', '.join(sorted(choices))})")


@pytest.mark.parametrize("written", [["--preset", "fsat"], ["--preset=fsat"]])
def test_a_misspelled_preset_ends_in_one_line(written, capsys):
    assert main(["merge", "x", "y", *written]) == 2
    expected = "error: unknown value of --preset: 'fsat'; did you mean fast? (valid: compress, fast, standard)\n"
    assert capsys.readouterr().err == expected


def test_right_choices_and_none_pass():
    @dataclasses.dataclass
    class Options:
        mode: Literal["exact", "random"] = "exact"
        critic: Literal["td", "none"] | None = None
        out: str = "anything"

    check_choices(Options())
    check_choices(Options("random", "none"))
    with pytest.raises(UnknownNameError, match="value of --critic: 'tdd'"):
        check_choices(Options(critic="tdd"))


def test_help_and_shell_completion_show_the_choices(capsys):
    for arguments in (["merge", "--help"], ["--tyro-print-completion", "bash"]):
        with pytest.raises(SystemExit):
            main(arguments)
    printed = capsys.readouterr().out
    assert "{standard,fast,compress}" in printed
    assert "'choices': ['standard', 'fast', 'compress']" in printed
