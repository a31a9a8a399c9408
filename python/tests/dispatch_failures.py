"""The cases of dispatch_cases.py in which something fails, is cancelled, or is done twice."""

import asyncio
import contextlib
from typing import Any

import anyio
from dispatch_cases import App, CallNext, Dispatch, Receive, Send, World, case, noting, part, passes, reads, start, streaming, whole
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse


class CustomError(BaseException):
    """That no `except Exception` stops."""


def raising(world: World, error: BaseException, *messages: dict[str, Any], waits: bool = False) -> App:
    """Raises after these messages; the last of them may be a last part."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
            world.note("given")
        if waits:
            await asyncio.sleep(0)
        raise world.fail(error)

    return app


def caused(by: str) -> Exception:
    error = ValueError("app")
    if by == "cause":
        error.__cause__ = KeyError("cause")
    elif by == "context":
        error.__context__ = KeyError("context")
    elif by == "suppressed":
        error.__context__ = KeyError("context")
        error.__suppress_context__ = True
    return error


def seeing(world: World) -> Dispatch:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        try:
            response = await call_next(request)
        except BaseException as error:
            world.note("seen", repr(error), error is world.raised, repr(error.__cause__), error.__suppress_context__)
            raise
        world.note("out")
        return response

    return dispatch


for by in ("nothing", "cause", "context", "suppressed"):

    def raises(world: World, by: str = by) -> tuple[list[Dispatch], App]:
        return [seeing(world), seeing(world)], raising(world, caused(by))

    def dispatch_raises(world: World, by: str = by) -> tuple[list[Dispatch], App]:
        async def dispatch(request: Request, call_next: CallNext) -> Any:
            await call_next(request)
            raise world.fail(caused(by))

        return [seeing(world), dispatch], whole(world)

    raises.__name__ = f"raises_with_{by}"
    dispatch_raises.__name__ = f"dispatch_raises_with_{by}"
    case(raises)
    case(dispatch_raises)


@case
def raises_later(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world), seeing(world)], raising(world, ValueError("app"), waits=True)


@case
def raises_after_the_start(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world), seeing(world)], raising(world, ValueError("app"), start(), waits=True)


@case
def raises_at_once_after_the_start(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world), noting(world)], raising(world, ValueError("app"), start())


@case
def raises_in_the_middle(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world), seeing(world)], raising(world, ValueError("app"), start(), part(b"a", True))


@case
def raises_after_the_answer(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world), seeing(world)], raising(world, ValueError("app"), start(), part(b"a"))


@case
def error_is_answered(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except ValueError as error:
            return PlainTextResponse(f"{error}", 500)

    return [dispatch], raising(world, ValueError("app"), waits=True)


@case
def no_response(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        pass

    return [seeing(world), passes], app


@case
def no_response_later(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)

    return [passes], app


@case
def dispatch_returns_nothing(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        await call_next(request)

    return [dispatch], whole(world)


def lasting(world: World, *, shielded: bool = False, scoped: bool = False) -> App:
    """Waits for ever after its start, and takes its time when it is cancelled."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() if scoped else contextlib.nullcontext():
            try:
                await send(start())
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                world.note("app cancelled")
                if shielded:
                    with anyio.CancelScope(shield=True):
                        for _ in range(3):
                            await asyncio.sleep(0)
                        world.note("cleaned")
                try:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    world.note("not cancelled again")
                except asyncio.CancelledError:
                    world.note("cancelled again")
                raise

    return app


@case
def dispatch_raises_while_the_app_runs(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        raise world.fail(ValueError("dispatch"))

    return [seeing(world), dispatch], lasting(world)


@case
def dispatch_raises_while_the_app_cleans_up(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        raise world.fail(ValueError("dispatch"))

    return [dispatch, passes], lasting(world, shielded=True)


@case
def dispatch_raises_while_the_app_is_in_a_scope(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        await asyncio.sleep(0)
        raise world.fail(ValueError("dispatch"))

    return [dispatch, passes], lasting(world, shielded=True, scoped=True)


@case
def app_raises_when_it_is_cancelled(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        raise world.fail(ValueError("dispatch"))

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await send(start())
            await asyncio.sleep(3600)
        finally:
            raise KeyError("app")

    return [dispatch], app


@case
def custom_error(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world)], raising(world, CustomError("app"), start(), waits=True)


@case
def custom_error_without_response(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world)], raising(world, CustomError("app"), waits=True)


@case
def custom_error_at_once(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world)], raising(world, CustomError("app"))


@case
def custom_error_while_dispatch_waits(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            world.note("dispatch cancelled")
            raise

    return [seeing(world), dispatch], raising(world, CustomError("app"), start(), waits=True)


@case
def custom_error_after_the_answer(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world)], raising(world, CustomError("app"), start(), part(b"a"), waits=True)


@case
def app_cancels_itself(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world)], raising(world, asyncio.CancelledError(), waits=True)


@case
def app_cancels_itself_after_the_start(world: World) -> tuple[list[Dispatch], App]:
    return [seeing(world)], raising(world, asyncio.CancelledError(), start(), waits=True)


@case
def app_cancels_itself_while_dispatch_waits(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        await asyncio.sleep(3600)
        return response

    return [dispatch], raising(world, asyncio.CancelledError(), start(), waits=True)


# The request's task is cancelled, or the client goes.


def cancelling(world: World, turns: int) -> None:
    async def outside(task: asyncio.Task[None]) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        world.note("cancel", task.cancel())

    world.outside = outside


@case
def cancelled_while_the_app_waits(world: World) -> tuple[list[Dispatch], App]:
    cancelling(world, 20)
    return [seeing(world), seeing(world)], lasting(world)


@case
def cancelled_while_the_app_cleans_up(world: World) -> tuple[list[Dispatch], App]:
    cancelling(world, 20)
    return [passes, passes], lasting(world, shielded=True, scoped=True)


@case
def cancelled_before_the_start(world: World) -> tuple[list[Dispatch], App]:
    cancelling(world, 20)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            world.note("app ended")

    return [seeing(world), passes], app


@case
def cancelled_after_the_answer(world: World) -> tuple[list[Dispatch], App]:
    cancelling(world, 40)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await whole(world)(scope, receive, send)
        try:
            await asyncio.sleep(3600)
        finally:
            world.note("app ended")

    return [passes, passes], app


@case
def cancelled_in_the_stream(world: World) -> tuple[list[Dispatch], App]:
    cancelling(world, 60)
    world.is_unordered = True  # AnyIO cancels the tasks of a group in the order of a set

    async def parts() -> Any:
        try:
            yield b"a"
            await asyncio.sleep(3600)
        finally:
            world.note("stream closed")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await StreamingResponse(parts(), background=BackgroundTask(world.note, "never"))(scope, receive, send)

    return [passes], app


@case
def client_goes_in_the_stream(world: World) -> tuple[list[Dispatch], App]:
    async def outside(task: asyncio.Task[None]) -> None:
        while len(world.events) < 4:
            await asyncio.sleep(0)
        world.disconnected.set()

    world.outside = outside

    async def parts() -> Any:
        try:
            yield b"a"
            await asyncio.sleep(3600)
        finally:
            world.note("stream closed")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await StreamingResponse(parts())(scope, receive, send)
        world.note("app out")

    return [noting(world)], app


@case
def send_fails(world: World) -> tuple[list[Dispatch], App]:
    world.sent_max = 3
    return [seeing(world), seeing(world)], streaming(world, 50)


@case
def send_fails_at_the_start(world: World) -> tuple[list[Dispatch], App]:
    world.sent_max = 1
    return [seeing(world), seeing(world)], whole(world)


# Time limits, scopes and tasks of dispatch's own.


def limited(world: World, limit: Any, after: str) -> Dispatch:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = None
        try:
            async with contextlib.AsyncExitStack() as stack:
                made = limit()
                await (stack.enter_async_context(made) if hasattr(made, "__aenter__") else asyncio.sleep(0, stack.enter_context(made)))
                response = await call_next(request)
        except TimeoutError as error:
            world.note("timed out", response is None)
            if after == "raise":
                raise world.fail(error) from None
        world.note("limit left")
        return response or PlainTextResponse("late", 504)

    return dispatch


def slow(world: World) -> App:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(0.06)
        except asyncio.CancelledError:
            world.note("app cancelled")
            raise
        world.note("app goes on", await receive())
        await whole(world)(scope, receive, send)

    return app


LIMITS = {"fail_after": anyio.fail_after, "move_on_after": anyio.move_on_after, "timeout": asyncio.timeout}

for name, limit in LIMITS.items():
    for seconds in (0.01, 0.0, 5.0):
        for after in ("answer", "raise"):

            def timed(world: World, limit: Any = limit, seconds: float = seconds, after: str = after) -> tuple[list[Dispatch], App]:
                return [seeing(world), limited(world, lambda: limit(seconds), after)], slow(world)

            timed.__name__ = f"{name}_{seconds}_{after}"
            case(timed)


@case
def cancelled_scope(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call_next(request)
            world.note("not cancelled")
        return PlainTextResponse("mine")

    return [dispatch], whole(world)


@case
def cancelled_by_itself(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await call_next(request)
            world.note("not cancelled")
        except asyncio.CancelledError:
            world.note("cancelled")
            task.uncancel()
        return PlainTextResponse("mine")

    return [dispatch], whole(world)


@case
def in_a_scope(world: World) -> tuple[list[Dispatch], App]:
    world.is_scoped = True
    return [noting(world), noting(world)], whole(world)


@case
def in_groups(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
            response = await call_next(request)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(0))
        return response

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(asyncio.sleep, 0)
            await whole(world)(scope, receive, send)

    return [dispatch, dispatch], app


@case
def app_fails_in_a_group(world: World) -> tuple[list[Dispatch], App]:
    async def fail() -> None:
        raise ValueError("in a group")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            await asyncio.sleep(3600)

    return [seeing(world)], app


@case
def in_a_task(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        return await asyncio.create_task(call_next(request))  # type: ignore[arg-type]

    return [dispatch, dispatch], whole(world)


@case
def in_a_task_with_a_limit(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        try:
            return await asyncio.wait_for(asyncio.ensure_future(call_next(request)), 0.01)
        except TimeoutError:
            return PlainTextResponse("late", 504)

    return [dispatch], slow(world)


@case
def task_is_left_alone(world: World) -> tuple[list[Dispatch], App]:
    tasks = []

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        tasks.append(asyncio.create_task(call_next(request)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return PlainTextResponse("mine")

    async def outer(request: Request, call_next: CallNext) -> Any:
        return await call_next(request)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.02)
        await whole(world)(scope, receive, send)

    async def outside(task: asyncio.Task[None]) -> None:
        await asyncio.wait([task])
        world.note([repr(result) for result in await asyncio.gather(*tasks, return_exceptions=True)])

    world.outside = outside
    return [outer, dispatch], app


# call_next more than once.


def twice(world: World, first: str) -> Dispatch:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        try:
            response = await call_next(request)
            if first == "read":
                world.note([chunk async for chunk in response.body_iterator])
        except ValueError as error:
            world.note(repr(error))
        try:
            return await call_next(request)
        except BaseException as error:
            world.note("the second", repr(error), repr(error.__cause__))
            raise

    return dispatch


@case
def twice_unread(world: World) -> tuple[list[Dispatch], App]:
    return [passes, twice(world, "unread")], whole(world)


@case
def twice_read(world: World) -> tuple[list[Dispatch], App]:
    return [passes, twice(world, "read")], whole(world)


@case
def twice_streamed(world: World) -> tuple[list[Dispatch], App]:
    world.is_unordered = True  # two tasks end at once
    return [twice(world, "read")], streaming(world)


@case
def twice_read_inside(world: World) -> tuple[list[Dispatch], App]:
    return [twice(world, "read"), reads(world)], whole(world)


def failing_once(world: World, *, waits: bool) -> App:
    calls = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("the first")
        if waits:
            await asyncio.sleep(0)
        await whole(world)(scope, receive, send)

    return app


@case
def again_after_an_error(world: World) -> tuple[list[Dispatch], App]:
    return [twice(world, "fails")], failing_once(world, waits=False)


@case
def again_after_an_error_slowly(world: World) -> tuple[list[Dispatch], App]:
    return [twice(world, "fails")], failing_once(world, waits=True)


@case
def two_at_once(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        first, second = await asyncio.gather(call_next(request), call_next(request), return_exceptions=True)
        world.note(type(first).__name__, type(second).__name__)
        return first

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(part(b"a"))

    return [dispatch], app


@case
def after_the_end(world: World) -> tuple[list[Dispatch], App]:
    kept: list[Any] = []

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        kept.append((call_next, request))
        return PlainTextResponse("mine")

    async def outside(task: asyncio.Task[None]) -> None:
        await asyncio.wait([task])
        call_next, request = kept[0]
        with contextlib.suppress(RuntimeError) as _:
            await call_next(request)
            world.note("called")

    world.outside = outside
    return [dispatch], whole(world)


@case
def sends_after_its_end(world: World) -> tuple[list[Dispatch], App]:
    tasks: list[asyncio.Task[None]] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        async def late() -> None:
            await asyncio.sleep(0.01)
            try:
                await send(start())
            except anyio.ClosedResourceError:
                world.note("closed")

        tasks.append(asyncio.create_task(late()))
        await whole(world)(scope, receive, send)

    async def outside(task: asyncio.Task[None]) -> None:
        await asyncio.wait([task])
        await asyncio.wait(tasks)

    world.outside = outside
    return [passes], app
