"""Arize Phoenix on a database in memory, without its pages."""

from phoenix.db.engines import create_engine
from phoenix.server.app import _db, create_app
from phoenix.server.types import DbSessionFactory

engine = create_engine("sqlite:///:memory:")
app = create_app(db=DbSessionFactory(db=_db(engine), dialect=engine.dialect.name), authentication_enabled=False, serve_ui=False)
