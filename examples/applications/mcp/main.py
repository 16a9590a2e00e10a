import asyncio

from mcp.server.mcpserver import Context, MCPServer
from starlette.responses import PlainTextResponse

server = MCPServer("tools")


@server.tool()
def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


@server.tool()
async def count(upto: int, ctx: Context) -> str:
    """Counts, and says how far it is."""
    for number in range(1, upto + 1):
        await ctx.report_progress(number, upto)
        await asyncio.sleep(0.01)
    return f"counted to {upto}"


@server.resource("greeting://{name}")
def greeting(name: str) -> str:
    return f"Hello {name}"


@server.custom_route("/healthz", methods=["GET"])
async def health(request):
    return PlainTextResponse("ok")


# For a host on loopback it would refuse every Host header but localhost's, and here it is the URL's.
site = server.streamable_http_app(host="0.0.0.0")
