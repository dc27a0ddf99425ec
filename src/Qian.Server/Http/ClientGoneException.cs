namespace Qian.Server.Http;

// Nobody reads the reply any more. The connection's pipe may say so before the request's own token does.
internal sealed class ClientGoneException() : OperationCanceledException("The client is gone.");
