"""Personal data and secrets become typed placeholders, counted by type. It finds what has a form, not a meaning: names
and street addresses stay. Precision first: a number is a telephone's only when it is written like one.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["API_KEY", "EMAIL", "IBAN", "IP", "PHONE"]

# Prefixes that vendors publish so that leaked keys can be found; each is followed by its random part.
API_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----(?:[^-]|-(?!----))*+-----END (?:[A-Z]+ ){0,3}PRIVATE KEY-----"
    r"|\b(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}"  # Amazon Web Services
    r"|gh[pousr]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{50,}"
    r"|sk-(?:ant-|proj-)?[0-9A-Za-z_-]{20,}"  # Anthropic, OpenAI
    r"|[sr]k_live_[0-9A-Za-z]{20,}"  # Stripe
    r"|xox[abeprs]-[0-9A-Za-z-]{10,}"  # Slack
    r"|AIza[0-9A-Za-z_-]{35}"  # Google
    r"|hf_[0-9A-Za-z]{30,}"  # Hugging Face
    r"|glpat-[0-9A-Za-z_-]{20,}"  # GitLab
    r"|eyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"  # a signed JSON web token (RFC 7519)
    r")"
)
# RFC 5322's dot-atom before the @, host names of RFC 1123 with at least one dot behind it. Lengths are RFC 5321's; they
# also keep the search linear.
EMAIL = re.compile(
    r"(?<![\w.+-])[\w!#$%&'*+/=?^`{|}~-]{1,64}(?:\.[\w!#$%&'*+/=?^`{|}~-]{1,64}){0,8}@"
    r"(?:[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?\.){1,8}[A-Za-z][0-9A-Za-z-]{0,61}[0-9A-Za-z]"
)
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,4})?\b")
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
# E.164 with its plus sign, or ten digits as North America groups them. Bare runs of digits are ids and quantities.
PHONE = re.compile(
    r"(?<![\w+.-])(?:\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,6}"
    r"|(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4})"
    r"(?![\w]|[.-]\d)"
)
# Length by country: the IBAN registry (ISO 13616).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


class Scrubbing(BaseModel):
    """What is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kinds: tuple[Kind, ...] = Field(
        ("API_KEY", "EMAIL", "IBAN", "IP", "PHONE"), description="Each becomes its name in angle brackets: <EMAIL>."
    )
    public_ips_only: bool = Field(
        True,
        description="Leave 127.0.0.1 and 10.0.0.0/8: they name no one. A version of four numbers (3.8.11.1) "
        "is written like an address and goes, as in datatrove.",
    )


class Scrubbed(NamedTuple):
    """The text with placeholders, and how many of each kind."""

    text: str
    counts: dict[str, int]


def scrub(text: str, rule: Scrubbing) -> Scrubbed:
    """Personal data and secrets replaced. Doing it twice changes nothing more: no placeholder has such a form."""
    counts: Counter[str] = Counter()
    for kind, may_hold, pattern, is_real in _STEPS:
        if kind in rule.kinds and may_hold(text):

            def replaced(match: re.Match[str], kind: Kind = kind, is_real: Check = is_real) -> str:
                if not is_real(match[0], rule):
                    return match[0]
                counts[kind] += 1
                return f"<{kind}>"

            text = pattern.sub(replaced, text)
    return Scrubbed(text, dict(counts))


def is_iban(candidate: str) -> bool:
    """Its country's length, and a remainder of 1 modulo 97 (ISO 7064)."""
    packed = candidate.replace(" ", "")
    if IBAN_LENGTHS.get(packed[:2]) != len(packed):
        return False
    return int("".join(str(int(character, 36)) for character in packed[4:] + packed[:4])) % 97 == 1


def is_ip(candidate: str, *, public_only: bool) -> bool:
    """An address that exists and, if asked, is reachable from anywhere (the IANA special-purpose registries)."""
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    return address.is_global or not public_only


def is_phone(candidate: str) -> bool:
    """Of 8 to 15 digits (E.164 allows no more)."""
    return 8 <= sum(map(str.isdigit, candidate)) <= 15


Check = Callable[[str, Scrubbing], bool]
_KEY_STARTS = ("PRIVATE KEY", "AKIA", "ASIA", "gh", "sk-", "k_live_", "xox", "AIza", "hf_", "glpat-", "eyJ")
_DIGIT = re.compile(r"\d")


def _has_digit(text: str) -> bool:
    return _DIGIT.search(text) is not None


# In this order: a key may hold an address's form, an IBAN or an IP a telephone's.
_STEPS: tuple[tuple[Kind, Callable[[str], bool], re.Pattern[str], Check], ...] = (
    ("API_KEY", lambda text: any(start in text for start in _KEY_STARTS), API_KEY, lambda found, rule: True),
    ("EMAIL", lambda text: "@" in text, EMAIL, lambda found, rule: True),
    ("IBAN", _has_digit, IBAN, lambda found, rule: is_iban(found)),
    (
        "IP",
        lambda text: "." in text and _has_digit(text),
        IPV4,
        lambda f, rule: is_ip(f, public_only=rule.public_ips_only),
    ),
    ("IP", lambda text: ":" in text, IPV6, lambda f, rule: is_ip(f, public_only=rule.public_ips_only)),
    ("PHONE", _has_digit, PHONE, lambda found, rule: is_phone(found)),
)
