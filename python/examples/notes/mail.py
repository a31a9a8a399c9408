"""Mail, sent in the background. Without an SMTP server it goes to the log."""

import logging
import smtplib
from email.message import EmailMessage
from typing import Annotated, Protocol

from fastapi import Depends

from .settings import SettingsDep

logger = logging.getLogger("notes.mail")


class Mailer(Protocol):
    def send(self, to: str, subject: str, text: str) -> None: ...


class LogMailer:
    def send(self, to: str, subject: str, text: str) -> None:
        logger.info("mail to %s: %s", to, subject)


class SmtpMailer:
    def __init__(self, host: str) -> None:
        self.host = host

    def send(self, to: str, subject: str, text: str) -> None:
        message = EmailMessage()
        message["To"], message["Subject"] = to, subject
        message.set_content(text)
        with smtplib.SMTP(self.host, timeout=10) as server:
            server.send_message(message)


def get_mailer(settings: SettingsDep) -> Mailer:
    return SmtpMailer(settings.smtp_host) if settings.smtp_host else LogMailer()


MailerDep = Annotated[Mailer, Depends(get_mailer)]
