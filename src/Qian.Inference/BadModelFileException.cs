namespace Qian.Inference;

/// <summary>
/// A model file is damaged, inconsistent, or not of the supported family. The message names the tensor, key or token concerned,
/// what was expected, what was found, and what to do about it.
/// </summary>
public sealed class BadModelFileException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">What is wrong with the file, in one sentence a user can act on.</param>
    public BadModelFileException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with the error that revealed the damage.</summary>
    /// <param name="message">What is wrong with the file, in one sentence a user can act on.</param>
    /// <param name="innerException">The error that revealed it.</param>
    public BadModelFileException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
