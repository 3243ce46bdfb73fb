"""Every refusal has a status and a sentence in every language."""

import pytest

from domain.refusals import STATUS, Code, Detail, Problem
from domain.sentences import LANGUAGES, MESSAGES, PROBLEMS, explain, message


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_left_without_words(language: str) -> None:
    assert set(STATUS) == set(Code)
    assert set(MESSAGES[language]) == set(Code)
    assert set(PROBLEMS[language]) == set(Problem)
    assert all(message(code, language) for code in Code)
    assert all("{}" not in explain(Detail("f", problem, "x"), language) for problem in Problem)


def test_only_what_is_our_fault_is_a_500() -> None:
    assert {code for code, status in STATUS.items() if status == 500} == {Code.INTERNAL_ERROR, Code.OPERATION_FAILED}
