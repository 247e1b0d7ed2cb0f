"""What is escaped is shown as it was, also by the Prefect UI."""

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lifecycle.pages.render import escaped
from tasks.markdown import for_prefect


def test_an_interval_in_a_table_has_its_brackets():
    assert for_prefect(f"| {escaped('0.96 [0.95, 0.97] a|b')} |") == r"| 0.96 \[0.95, 0.97\] a\|b |"


@given(st.text(alphabet="&<>|`[]\\ab1;#()!", min_size=1))
def test_what_came_from_outside_is_text_for_a_parser_of_markdown(text):
    """No entity is left for a page that knows none; what stands in a cell stays in it, and is no markup."""
    shown = for_prefect(f"| {escaped(f'x{text}x')} | end |")
    parsed = MarkdownIt("commonmark").enable("table").parse(f"| a | b |\n|---|---|\n{shown}")
    cells = [token for token in parsed if token.type == "inline"][2:]
    assert {child.type for child in cells[0].children} <= {"text", "text_special"}
    assert "".join(child.content for child in cells[0].children) == f"x{text}x".strip()
    assert [cell.content for cell in cells[1:]] == ["end"]
