"""An app with the admin pages of one table."""

from fastapi import FastAPI
from sqladmin import Admin, ModelView
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


class UserAdmin(ModelView, model=User):
    pass


app = FastAPI()
Admin(app, create_engine("sqlite://")).add_view(UserAdmin)
