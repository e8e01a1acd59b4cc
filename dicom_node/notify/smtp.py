"""A message -> a mail server (RFC 5321, RFC 5322): the channel of the kind `SMTP`."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from ..delivery.outcome import Outcome
from ..settings.notify import SmtpChannel
from .texts import Message


def send(message: Message, channel: SmtpChannel) -> Outcome:
    """Send one mail; without an answer it is unknown whether it arrived, and it goes again with its Message-ID."""
    try:
        with _connected(channel) as server:
            refused = server.send_message(_mail(message, channel))
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        final = all(code >= 500 for code in codes)
        said = f"every recipient was refused ({', '.join(map(str, codes))})"
        return Outcome("never" if final else "later", said, codes[-1])
    except smtplib.SMTPAuthenticationError as error:
        return Outcome("later", f"the login was refused ({error.smtp_code})", error.smtp_code)
    except smtplib.SMTPResponseException as error:
        final = 550 <= error.smtp_code < 560
        return Outcome("never" if final else "later", f"refused ({error.smtp_code})", error.smtp_code)
    except (OSError, smtplib.SMTPException) as error:
        return Outcome("later", f"{channel.place}: {_why(error)}")
    return Outcome("sent", f"taken, but not for {len(refused)} recipients" if refused else "taken")


def probe(channel: SmtpChannel) -> str:
    """Connect, encrypt and log in as for a mail; return "" where that works, else why not."""
    try:
        with _connected(channel) as server:
            server.noop()
    except (OSError, smtplib.SMTPException) as error:
        return f"{channel.place}: {_why(error)}"
    return ""


@contextmanager
def _connected(channel: SmtpChannel) -> Iterator[smtplib.SMTP]:
    trust = ssl.create_default_context()  # trust the system's authorities, to which a hospital adds its own
    where = channel.host, channel.port
    server = (
        smtplib.SMTP_SSL(*where, timeout=channel.timeout, context=trust)
        if channel.security == "tls"
        else smtplib.SMTP(*where, timeout=channel.timeout)
    )
    with server:
        if channel.security == "starttls":
            server.starttls(context=trust)
        if channel.password_file is not None:
            server.login(channel.user, channel.password_file.read_text().strip())
        yield server


def _mail(message: Message, channel: SmtpChannel) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = channel.sender, ", ".join(channel.recipients)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at, UTC))
    mail["Message-ID"] = f"<{message.id}@{channel.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer by a machine
    mail.set_content(message.text)
    return mail


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
