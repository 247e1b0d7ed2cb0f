"""Why documents are dropped, in plain words: what each reason means, and where its rule comes from."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Family(NamedTuple):
    """Reasons with a common start: what they are about, and the paper that gives the rules."""

    name: str
    paper: str = ""
    link: str = ""


FAMILIES: Mapping[str, Family] = {
    "row_": Family("rows that cannot be used"),
    "language_": Family("language", "Joulin et al. 2017", "https://arxiv.org/abs/1607.01759"),
    "gopher_": Family("does it look like prose", "Rae et al. 2021, A1.1", "https://arxiv.org/abs/2112.11446"),
    "repetition_": Family("does it repeat itself", "Rae et al. 2021, table A1", "https://arxiv.org/abs/2112.11446"),
    "c4_": Family("placeholders and code", "Raffel et al. 2020, 2.2", "https://arxiv.org/abs/1910.10683"),
    "fineweb_": Family("a page's scaffolding", "Penedo et al. 2024", "https://arxiv.org/abs/2406.17557"),
    "answer_": Family("nobody should learn to answer so"),
    "duplicate": Family("duplicates", "Lee et al. 2021", "https://arxiv.org/abs/2107.06499"),
    "contaminated": Family("held out for evaluation", "Brown et al. 2020, C", "https://arxiv.org/abs/2005.14165"),
    "over_": Family("more than was asked for"),
    "beyond_": Family("more than was asked for"),
}

MEANINGS: Mapping[str, str] = {
    "row_bad_json": "the line is no JSON",
    "row_not_an_object": "the line is JSON, but no object",
    "row_empty_line": "the line is empty",
    "row_too_deep": "JSON nested so deep that a parser could run out of stack",
    "row_too_long": "the row is longer than a row may be",
    "row_not_utf8": "the bytes are no UTF-8",
    "row_unreadable": "the file could not be unpacked from here on",
    "row_no_text": "the text field is missing or empty",
    "row_wrong_type": "the text field holds something else than text",
    "row_nul": "the text holds a NUL character",
    "row_lone_surrogate": "the text cannot be written as UTF-8: half of a character",
    "row_no_messages": "there are no turns",
    "row_bad_message": "a turn is no object of a role, a content and what that role may have beside",
    "row_unknown_role": "a turn has a role that we do not know",
    "row_roles_do_not_alternate": "the turns are not user, assistant, user, ...",
    "row_does_not_end_with_assistant": "no answer comes last",
    "row_of_unknown_shape": "the row has none of the shapes we know",
    "row_of_another_shape": "the row has another shape than its source",
    "row_bad_tools": "the tools it defines are not as the OpenAI chat schema has them, or two have one name",
    "row_calls_undefined_tool": "it defines tools, and a call is of another one",
    "row_call_lacks_argument": "a call leaves out an argument that its tool's definition requires",
    "row_bad_tool_call": "a tool call has no id, function, name or arguments, or more",
    "row_tool_arguments_are_no_json": "the arguments of a tool call are no JSON object as text",
    "row_repeated_tool_call_id": "two calls of a turn have one id",
    "row_no_tool_call_id": "a tool's result does not say which call it answers",
    "row_tool_result_without_call": "a tool's result answers no call",
    "row_tool_call_without_result": "a tool call has no result, and the conversation goes on",
    "answer_truncated": "a long answer breaks off inside a sentence: its writer hit a length limit",
    "answer_looping": "an answer says the same again and again",
    "answer_is_prompt": "an answer repeats what was asked",
    "contaminated_prompt": "asks what an evaluation item asks",
    "contaminated_ngram": "shares a run of words with an evaluation item",
    "prompt_is_held_out_from_training": "the dev file asks the same",
    "duplicate": "the prompt and the answer of another conversation that stays",
    "row_bad_id": "the id is no text, or holds a NUL",
    "row_repeated_id": "another row of the source has the same id",
    "language_other": "it is in another language than those asked for",
    "language_unsure": "the language is one asked for, but hardly certain",
    "gopher_word_count": "too few or too many words",
    "gopher_mean_word_length": "words are too short or too long on average",
    "gopher_alphabetic_words": "too many words without a letter",
    "gopher_stop_words": "too few of the, be, to, of, and, that, have, with: hardly a sentence",
    "gopher_symbols": "too many # or … for its words",
    "gopher_bullet_lines": "nearly every line begins with a bullet",
    "gopher_ellipsis_lines": "too many lines end in …: excerpts",
    "repetition_lines": "too many lines repeat an earlier one",
    "repetition_paragraphs": "too many paragraphs repeat an earlier one",
    "c4_lorem_ipsum": "it holds the placeholder text lorem ipsum",
    "c4_curly_bracket": "it holds a curly bracket: code",
    "c4_few_sentences": "too few sentences in the lines that stay",
    "fineweb_short_lines": "too many short lines: a menu or a table",
    "fineweb_unended_lines": "too few lines end in punctuation: a list of links",
    "fineweb_repeated_lines": "too many characters in lines that repeat an earlier one",
    "fineweb_list": "too many line breaks for its words: a list",
    "duplicate_exact": "equal, character by character, to a document that stays",
    "duplicate_near": "shares most of its five-word runs with a document that stays",
    "contaminated": "shares a run of words with an evaluation item: the model would have read the answer",
    "over_cap": "beyond what its source may give",
    "beyond_mixture": "beyond the share of its source in the mixture",
}
TOP = re.compile(r"repetition_top_(\d+)gram$")
REPEATED = re.compile(r"repetition_(\d+)grams$")


def meaning(reason: str) -> str:
    """What a reason says of a document; nothing for one that is not known here."""
    if top := TOP.match(reason):
        return f"one run of {top[1]} words covers too much of the text"
    if repeated := REPEATED.match(reason):
        return f"runs of {repeated[1]} words that occurred before cover too much of the text"
    return MEANINGS.get(reason, "")


def family(reason: str) -> Family:
    """What a reason belongs to."""
    return next((found for start, found in FAMILIES.items() if reason.startswith(start)), Family("other reasons"))
