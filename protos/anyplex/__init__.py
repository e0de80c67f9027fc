"""Client and contracts of Anyplex.

::

    from anyplex import Client, Image

    with Client("localhost:50051") as client:
        reply = client.generate(["What is this?", Image("cat.png")], system="next-gpt", seed=1)
        print(reply.text, reply.versions, reply.usage)
        for event in client.stream([Image("a.png"), Image("b.png"), "What changed?"], system="next-gpt"):
            print(event)
"""

from anyplex.aio import AsyncClient
from anyplex.aio_conversation import AsyncConversation, AsyncTurn
from anyplex.aio_streaming import AsyncEventStream
from anyplex.client import Client
from anyplex.connection import NO_RETRY, Retry, Tls
from anyplex.conversation import Conversation, Turn
from anyplex.errors import (
    AlreadyExists,
    AnyplexError,
    Cancelled,
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Violation,
)
from anyplex.events import (
    Accepted,
    Event,
    Finished,
    MediaChunk,
    MediaFailed,
    MediaProgress,
    MediaStarted,
    NodeTiming,
    RegionsFound,
    Text,
    TokenLogprob,
    Usage,
)
from anyplex.media import Audio, Image, MadeMedium, Medium, Region, Upload, Video
from anyplex.reply import MediaFailure, Reply
from anyplex.requests import MediaParameters, Message, Parts, RequestOptions
from anyplex.streaming import EventStream
from anyplex.systems import Limits, Node, System, SystemDescription

__version__ = "0.1.0"

__all__ = [
    "NO_RETRY",
    "Accepted",
    "AlreadyExists",
    "AnyplexError",
    "AsyncClient",
    "AsyncConversation",
    "AsyncEventStream",
    "AsyncTurn",
    "Audio",
    "Cancelled",
    "Client",
    "Conversation",
    "DeadlineExceeded",
    "Event",
    "EventStream",
    "Exhausted",
    "FailedPrecondition",
    "Finished",
    "Image",
    "Internal",
    "InvalidRequest",
    "Limits",
    "MadeMedium",
    "MediaChunk",
    "MediaFailed",
    "MediaFailure",
    "MediaParameters",
    "MediaProgress",
    "MediaStarted",
    "Medium",
    "Message",
    "Node",
    "NodeTiming",
    "NotFound",
    "Parts",
    "PermissionDenied",
    "Region",
    "RegionsFound",
    "Reply",
    "RequestOptions",
    "Retry",
    "System",
    "SystemDescription",
    "Text",
    "Tls",
    "TokenLogprob",
    "Turn",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Upload",
    "Usage",
    "Video",
    "Violation",
]
