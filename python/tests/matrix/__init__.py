"""One app of every kind of route, in every kind of middleware, asked the same by three servers. Run by test_matrix.py.

From the top: servers.py asks, requests.py is what is asked; layers.py names the set-ups, of stock.py, functions.py and protocol.py; app.py
makes the app, of inputs.py, outputs.py, dependencies.py, requesting.py, failures.py and nested.py; record.py is what all of it notes.

To add a route: a function in one of the app's files, that calls `note`, and its requests in requests.py. To add a set-up: a function that
takes a fresh app, in one of the three files of layers, and its name in their list; test_matrix.py has its count of native routes.
Nothing here may depend on time or on earlier requests: three servers are asked the same and have to answer the same.
"""
