"""``{% source "url-name" %}``: the source of a view, as it stands in views.py."""

import inspect
import keyword
import re

from django import template
from django.urls import resolve, reverse
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_PARTS = re.compile(
    r'(?P<decorator>^[ ]*@[\w.]+)|(?P<comment>#.*)|(?P<string>f?"""[\s\S]*?"""|f?"[^"\n]*")'
    rf"|(?P<keyword>\b(?:{'|'.join(keyword.kwlist)})\b)",
    re.MULTILINE,
)


@register.simple_tag
def source(url_name: str, imports: str = "") -> SafeString:
    """Return the source of the view behind a URL name as HTML, with these lines before it."""
    view = resolve(reverse(url_name)).func
    view = getattr(view, "view_class", getattr(view, "cls", None)) or inspect.unwrap(view)
    return highlighted(f"{imports}\n\n{inspect.getsource(view)}".strip())


def highlighted(code: str) -> SafeString:
    """Return Python code as HTML: escaped, and in colours."""
    html, end = "", 0
    for part in _PARTS.finditer(code):
        html += escape(code[end : part.start()])
        html += format_html('<span class="{}">{}</span>', part.lastgroup, part[0])
        end = part.end()
    return mark_safe(html + escape(code[end:]))  # noqa: S308  # every piece was escaped
