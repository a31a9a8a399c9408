"""`GET /users/{id}` as Robyn's manual writes it. Run: `python robyn_app.py PORT --processes 1 --workers 1`."""

import sys
from itertools import count

from robyn import Request, Robyn

app = Robyn(__file__)
calls = count()


@app.get("/users/:id")
def get_user(request: Request):
    next(calls)
    return {"user_id": int(request.path_params["id"])}


@app.get("/calls")
def get_calls(request: Request):
    return str(next(calls))


if __name__ == "__main__":
    app.start(host="127.0.0.1", port=int(sys.argv[1]))
