"""The lexicon: whole phrases in realised text, one-word entries among tokens, named faults."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probing.errors import UsageFault
from probing.lexicon import Lexicon, candidate_word, phrase_pattern

SHIPPED = Lexicon.load()


def found(text: str, *, group: str) -> list[str]:
    return [text[start:end] for start, end in SHIPPED.matches(text, group=group)]


def write(folder: Path, content: str) -> Path:
    path = folder / "lexicon.toml"
    path.write_text(content, encoding="utf-8")
    return path


def test_the_shipped_groups_in_their_order() -> None:
    assert SHIPPED.groups == (
        "answer",
        "formatting",
        "declaratory",
        "self_correction",
        "think_close",
    )


@pytest.mark.parametrize(
    ("group", "text", "expected"),
    [
        ("declaratory", "Letter to Leticia. Let x = 3. let y = 4.", ["Let"]),
        ("declaratory", "Let's go, Let’s. Outlet Let_ Let", ["Let"]),
        (
            "declaratory",
            "(Let a)[Suppose]Assume\nConsider",
            ["Let", "Suppose", "Assume", "Consider"],
        ),
        ("self_correction", "Or not, or so, Oregon, Or", ["Or", "Or"]),
        ("self_correction", "But wait, wait. Waiter! Wait!", ["But wait", "Wait"]),
        ("self_correction", "But\nwait  But   wait", ["But\nwait", "But   wait"]),
        ("self_correction", "Let me check, Let me checkmate", ["Let me check"]),
        ("self_correction", "Let's check Let’s check Lets check", ["Let's check", "Let’s check"]),
        ("self_correction", "Hmm, Hmmm, Maybe", ["Hmm", "Maybe"]),
        ("answer", r"so \boxed{7} and \boxedx and \\boxed{}", [r"\boxed", r"\boxed"]),
        ("formatting", "**a** $$x$$ \\[y\\]", ["**", "**", "$$", "$$", "\\["]),
        ("formatting", "1. one\n 12) two\nv1.5 a 3. b\n3.14", ["1.", " 12)"]),
        ("formatting", "# A\n### B\n#hash a # b", ["#", "###"]),
        ("formatting", "a\nb\n\nc\n \r\n\nd", ["\n\n", "\n \r\n\n"]),
        ("think_close", "<think>\nx</think>y", ["</think>"]),
    ],
)
def test_realised_text_is_matched_by_whole_phrases(
    group: str, text: str, expected: list[str]
) -> None:
    assert found(text, group=group) == expected


WORDS = st.sampled_from(["Let", "Or", "Wait", "Lets", "or", "x", "But", "wait"])
GLUE = st.sampled_from([" ", "", ", ", "\n", "'", "_", "-", "é"])


@given(st.lists(st.tuples(WORDS, GLUE), max_size=12), st.sampled_from(["Let", "Or", "Wait"]))
def test_a_word_matches_where_the_slow_definition_says(
    pieces: list[tuple[str, str]], word: str
) -> None:
    text = "".join(piece for pair in pieces for piece in pair)

    def inside_word(at: int, step: int) -> bool:
        """Whether the word goes on at `at`: a letter, or an apostrophe with a letter behind it."""
        char = text[at : at + 1] if at >= 0 else ""
        if char == "'":
            char = text[at + step : at + step + 1] if at + step >= 0 else ""
        return char.isalnum() or char == "_"

    slow = [
        (at, at + len(word))
        for at in range(len(text))
        if text.startswith(word, at)
        and not inside_word(at - 1, -1)
        and not inside_word(at + len(word), 1)
    ]
    assert [match.span() for match in phrase_pattern(word).finditer(text)] == slow


def test_matches_are_ascending_and_given_once(tmp_path: Path) -> None:
    lexicon = Lexicon.load(write(tmp_path, "[a]\nphrases=['b c', 'c']\nregexes=['c', 'b|(?=d)']"))
    assert lexicon.matches("d c b c", group="a") == ((2, 3), (4, 5), (4, 7), (6, 7))


def test_one_word_entries_are_words() -> None:
    assert SHIPPED.one_word_entries("self_correction") == (
        "Wait",
        "Hmm",
        "Actually",
        "Alternatively",
        "Or",
        "Maybe",
        "Perhaps",
    )
    assert SHIPPED.one_word_entries("formatting") == ()
    assert SHIPPED.one_word_entries("think_close") == ("</think>",)


@pytest.mark.parametrize(
    ("token", "holds"),
    [("Wait", True), (" Wait", True), ("wait", False), ("Waiting", False), ("Wa", False),
     ("\nWait", False), ("Wait ", False)],
)  # fmt: skip
def test_a_candidate_token_must_equal_the_entry(token: str, holds: bool) -> None:
    assert (candidate_word(token) == "Wait") is holds


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    text = "[a]\nphrases = ['x', 'y']\n[b]\nregexes = ['z']\n"
    digest = Lexicon.load(write(tmp_path, text)).digest
    commented = "# note\n[a]\nphrases = [\n  'x', # why\n  \"y\"]\nregexes = []\n[b]\nregexes=['z']"
    assert Lexicon.load(write(tmp_path, commented)).digest == digest
    for other in (
        text.replace("'x'", "'w'"),
        text.replace("'x', 'y'", "'y', 'x'"),
        text.replace("regexes", "phrases"),
        "[b]\nregexes = ['z']\n[a]\nphrases = ['x', 'y']\n",
    ):
        assert Lexicon.load(write(tmp_path, other)).digest != digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "needs 1 to 29 groups, got 0"),
        ("".join(f"[g{i}]\nphrases=['x']\n" for i in range(30)), "needs 1 to 29 groups, got 30"),
        ("[a\n", "is not valid TOML"),
        ("[a]\nphrases=['x']\n[a]\nphrases=['y']\n", "is not valid TOML"),
        ("a = 3\n", "needs a table for group 'a', got 3"),
        ("[A]\nphrases=['x']\n", "group names of a-z, 0-9 and _, got 'A'"),
        ("[random]\nphrases=['x']\n", "no group named interval, random, all, got 'random'"),
        ("[a]\nphrase=['x']\n", "only `phrases` and `regexes` in group 'a', got ['phrase']"),
        ("[a]\n", "a phrase or a regex in group 'a', got {}"),
        ("[a]\nphrases='x'\n", "a list of strings for `phrases` of group 'a', got 'x'"),
        ("[a]\nregexes=[1]\n", "a list of strings for `regexes` of group 'a', got [1]"),
        ("[a]\nphrases=['']\n", "not empty and have no white space at their ends, got ''"),
        ("[a]\nphrases=[' x']\n", "not empty and have no white space at their ends, got ' x'"),
        ("[a]\nregexes=['(']\n", "needs valid regexes in group 'a', got '('"),
        ("[a]\nregexes=['x*']\n", "that do not match nothing, got 'x*'"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsageFault, match=re.escape(message)) as fault:
        Lexicon.load(path)
    assert str(path) in str(fault.value)
    assert "probing/lexicon.toml" in str(fault.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="cannot be read"):
        Lexicon.load(tmp_path / "absent.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b"[a]\nphrases=['\xe9']\n")
    with pytest.raises(UsageFault, match="cannot be read"):
        Lexicon.load(path)


def test_an_unknown_group_lists_what_there_is() -> None:
    with pytest.raises(UsageFault, match=r"one of answer, formatting, .*, got 'anser'"):
        SHIPPED.matches("", group="anser")
