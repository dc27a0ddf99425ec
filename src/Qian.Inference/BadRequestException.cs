namespace Qian.Inference;

/// <summary>
/// A request cannot be served as it was put: a value out of range, a conversation the template refuses, a text that does not fit.
/// The message names the field, what was expected, and what was found. The engine itself is unharmed.
/// </summary>
public sealed class BadRequestException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">What is wrong with the request, in one sentence its sender can act on.</param>
    public BadRequestException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with the error that revealed the problem.</summary>
    /// <param name="message">What is wrong with the request, in one sentence its sender can act on.</param>
    /// <param name="innerException">The error that revealed it.</param>
    public BadRequestException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
