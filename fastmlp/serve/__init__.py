"""Serve models over HTTP: a page for people, and the APIs that programs know.

running      a server: its socket, signals, and uvicorn
connections  slow clients, and large bodies
app          the ASGI application: routes, errors, headers
guarding     who may ask
service      what routes share: bodies, threads, JSON
short        POST /predict, and what the page asks for (explaining)
inference    the Open Inference Protocol (tensors)
invocations  MLflow's scoring server
pages        the page, the description of the API (describing), the metrics
models       the served models, and files that are replaced
predicting   requests that arrive together are predicted together
rows         rows of numbers as requests have them; tables, pictures: likewise
answers      predictions as JSON and CSV
limits       what a request and a client may use
"""
