"""FastAPI's tutorial as one corpus of routes, each asked well and badly, of three servers. Run by test_corpus.py, in full by ci/corpus.

From the top: servers.py asks and compares; parts.py lists the parts, set_ups.py what is around an app; each other file is a part, or two;
kit.py is what a part is given, and ask.py what a good request is, and how it is spoilt. not_native.txt names the routes that take the
app's own ASGI call today.

To add a route: `kit.route(path, endpoint, Ask(path, …))` in a part; what it does is told to `kit.note`, or `kit.mark` where it changes the
context, too. Nothing here knows how a plan is made, nor may depend on time or on earlier requests: three servers are asked the same and
have to answer the same.
"""
