"""What stands in front of every route: page, API, files, uploads, websockets.

A browser carries requests of any web page it shows to this server, so the server asks of each request
for which host name it was meant (DNS rebinding) and which page sent it (cross-site requests), and it
looks at the body before a parser does. Clients that are no browser send neither Origin nor Sec-Fetch-*
headers and are let through. Plain ASGI, so that nothing behind it can be reached around it.
"""

from webui.api.guard.asgi import App, Message, Receive, Scope, Send
from webui.api.guard.bodies import MAX_DEPTH, MAX_JSON, MAX_UPLOAD, MAX_VALUES, check_json
from webui.api.guard.guard import Guard
from webui.api.guard.hosts import host_name

__all__ = [
    "MAX_DEPTH",
    "MAX_JSON",
    "MAX_UPLOAD",
    "MAX_VALUES",
    "App",
    "Guard",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "check_json",
    "host_name",
]
