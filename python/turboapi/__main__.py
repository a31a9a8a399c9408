"""`python -m turboapi` is the command `turboapi`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
