"""What servers and clients say of themselves is shown and logged; the passwords in their addresses never are."""

from urllib.parse import parse_qs, unquote, urlsplit

from config.settings import Settings


def without_passwords(text: str, settings: Settings) -> str:
    """`text` with `***` for each password that an address of `settings` carries, as it is and as the URL writes it."""
    for url in (settings.postgres_url, settings.redis_url, settings.smtp_url):
        parts = urlsplit(url)
        named = [parts.password or "", *parse_qs(parts.query).get("password", [])]
        for password in {shape for written in named for shape in (written, unquote(written)) if shape}:
            text = text.replace(password, "***")
    return text
