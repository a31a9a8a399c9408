"""The API of Google's Agent Development Kit, without an agent."""

import tempfile

from google.adk.cli.fast_api import get_fast_api_app

app = get_fast_api_app(agents_dir=tempfile.gettempdir(), web=False)
