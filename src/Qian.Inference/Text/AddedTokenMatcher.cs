using System.Buffers;

using Qian.Inference.Formats;

namespace Qian.Inference.Text;

// Finds added tokens in raw text: the leftmost, and of those that begin there the longest. A vectorised search for the few characters they
// begin with skips ordinary text; from such a character a trie is walked, so no number of added tokens makes the search slow.
internal sealed class AddedTokenMatcher
{
    private const int NoToken = -1;

    private readonly SearchValues<char> _firstCharacters;
    private readonly Dictionary<(int Node, char Character), int> _edges = [];
    private readonly List<int> _tokenOfNode = [NoToken];

    public AddedTokenMatcher(ReadOnlySpan<AddedToken> tokens)
    {
        var firstCharacters = new HashSet<char>();
        foreach (AddedToken token in tokens)
        {
            firstCharacters.Add(token.Text[0]);
            int node = 0;
            foreach (char c in token.Text)
            {
                if (!_edges.TryGetValue((node, c), out int child))
                {
                    child = _tokenOfNode.Count;
                    _edges.Add((node, c), child);
                    _tokenOfNode.Add(NoToken);
                }

                node = child;
            }

            _tokenOfNode[node] = token.Id;
        }

        _firstCharacters = SearchValues.Create([.. firstCharacters]);
    }

    // The first added token in the text; false when there is none.
    public bool TryFind(ReadOnlySpan<char> text, out int start, out int length, out int id)
    {
        start = 0;
        while (true)
        {
            int offset = text[start..].IndexOfAny(_firstCharacters);
            if (offset < 0)
            {
                length = 0;
                id = NoToken;
                return false;
            }

            start += offset;
            if (TryMatchAt(text[start..], out length, out id))
            {
                return true;
            }

            start++;
        }
    }

    private bool TryMatchAt(ReadOnlySpan<char> text, out int length, out int id)
    {
        length = 0;
        id = NoToken;
        int node = 0;
        for (int i = 0; i < text.Length && _edges.TryGetValue((node, text[i]), out node); i++)
        {
            if (_tokenOfNode[node] != NoToken)
            {
                length = i + 1;
                id = _tokenOfNode[node];
            }
        }

        return id != NoToken;
    }
}
