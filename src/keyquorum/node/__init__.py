"""The node daemon: sockets, clock and disk around the protocols, which have none.

Each room imports only from those above it:

    settings     what an operator writes
    storage      what must outlast a crash
    chain        what a node believes of the chain
    mesh         nodes speak to nodes
    pairs        what two nodes keep for each other
    runs         one run of a protocol at a time
    services     what callers may ask
    keymaking    new keys

`app` puts them together; `api`, `openapi`, `status` and `metrics` are what the world sees of it.
"""
