"""``{% source door %}``: what is behind a door, as it stands in views.py or in a template."""

import inspect
import keyword
import re
from pathlib import Path

from django import template
from django.urls import resolve, reverse
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from mysite.doors import Door

register = template.Library()

_PYTHON = re.compile(
    r'(?P<decorator>^[ ]*@[\w.]+)|(?P<comment>#.*)|(?P<string>f?"""[\s\S]*?"""|f?"[^"\n]*")'
    rf"|(?P<keyword>\b(?:{'|'.join(keyword.kwlist)})\b)",
    re.MULTILINE,
)
_TEMPLATE = re.compile(r"(?P<comment>\{#.*?#\})|(?P<decorator>\{%.*?%\})|(?P<string>\{\{.*?\}\})")


@register.simple_tag
def source(door: Door) -> SafeString:
    """Return the source of a door's view as HTML, its imports before it; or that of its template."""
    if door.template:
        text = (Path(__file__).parents[1] / "templates" / door.template).read_text("utf-8")
        return highlighted(text.strip(), _TEMPLATE)
    view = resolve(reverse(door.view, kwargs=door.arguments)).func
    view = getattr(view, "view_class", getattr(view, "cls", None)) or inspect.unwrap(view)
    return highlighted(f"{door.imports}\n\n\n{inspect.getsource(view)}".strip(), _PYTHON)


def highlighted(code: str, parts: re.Pattern[str]) -> SafeString:
    """Return code as HTML: escaped, and in colours."""
    html, end = "", 0
    for part in parts.finditer(code):
        html += escape(code[end : part.start()])
        html += format_html('<span class="{}">{}</span>', part.lastgroup, part[0])
        end = part.end()
    return mark_safe(html + escape(code[end:]))  # noqa: S308  # every piece was escaped
