using System.Text;
using System.Text.Json;

namespace Qian.Server.Tests.Page;

// Markdown to nodes: each text and what it becomes, written as the browser would serialise it.
[Collection(nameof(Chromium))]
public sealed class PageMarkdownTests(Chromium browser, ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private static readonly (string Text, string Nodes)[] s_cases =
    [
        ("Hello\nworld", "<p>Hello\nworld</p>"),
        ("One\n\nTwo  \nthree<br>four", "<p>One</p><p>Two<br>three<br>four</p>"),
        ("# A ##\n### B *c*", "<h3 class=\"h1\">A</h3><h5 class=\"h3\">B <em>c</em></h5>"),
        ("#no\n####### no", "<p>#no\n####### no</p>"),
        ("**a** *b* ***c*** __d__ _e_ ~~f~~ `g`", "<p><strong>a</strong> <em>b</em> <em><strong>c</strong></em> <strong>d</strong> <em>e</em> <del>f</del> <code>g</code></p>"),
        ("snake_case_name 2*3*4 a * b", "<p>snake_case_name 2<em>3</em>4 a * b</p>"),
        ("**open and *more", "<p>**open and *more</p>"),
        ("**中文（重点）**的", "<p><strong>中文（重点）</strong>的</p>"),
        ("`` a ` b `` and ``` `` ```", "<p><code>a ` b</code> and <code>``</code></p>"),
        ("\\*a\\* \\\\ \\d", "<p>*a* \\ \\d</p>"),
        ("<b>&amp;</b>", "<p>&lt;b&gt;&amp;amp;&lt;/b&gt;</p>"),
        ("- a\n- b\n  - c\n    more\n- [x] d", "<ul class=\"plan\"><li>a</li><li>b<ul><li>c\nmore</li></ul></li><li><input type=\"checkbox\" disabled=\"\" checked=\"\" aria-label=\"done\">d</li></ul>"),
        ("3. a\n4. b\n\n   c", "<ol start=\"3\"><li><p>a</p></li><li><p>b</p><p>c</p></li></ol>"),
        ("1. a\n   ```py\n\n   x\n   ```\n2. b", "<ol><li>a{code py|\\nx}</li><li>b</li></ol>"),
        ("In\n2020. it was", "<p>In\n2020. it was</p>"),
        ("> a\n> > b\nlazy\n\nout", "<blockquote><p>a</p><blockquote><p>b\nlazy</p></blockquote></blockquote><p>out</p>"),
        ("```\na\n  b\n```\nc", "{code text|a\\n  b}<p>c</p>"),
        ("~~~json\n1\n```\n~~~~", "{code json|<span class=\"c-number\">1</span>\\n```}"),
        ("```py\nreturn", "{code py|<span class=\"c-word\">return</span>}"),
        ("***\n- - -\n___", "<hr><hr><hr>"),
        ("| a | b |\n|:-:|--:|\n| `x|y` | 1\\|2 |\n| only |", "{table <thead><tr><th class=\"center\" scope=\"col\">a</th><th class=\"right\" scope=\"col\">b</th></tr></thead><tbody><tr><td class=\"center\"><code>x|y</code></td><td class=\"right\">1|2</td></tr><tr><td class=\"center\">only</td><td class=\"right\"></td></tr></tbody>}"),
        ("a | b\nno table", "<p>a | b\nno table</p>"),
        ("\\(a_1*b*\\) and \\[x\\]\n\n$$\na_1\n$$", "<p><span class=\"math\">a_1*b*</span> and [x]</p><pre class=\"math\">a_1</pre>"),
        ("It costs $5 or $6.", "<p>It costs $5 or $6.</p>"),
        ("[a *b*](https://x.example/p_(q) \"t\")!", "<p>{link https://x.example/p_(q)|a <em>b</em>}!</p>"),
        ("(https://x.example/a_(b)). <mailto:a@b.example>", "<p>({link https://x.example/a_(b)|https://x.example/a_(b)}). {link mailto:a@b.example|mailto:a@b.example}</p>"),
        ("![cat](https://x.example/c.png) [no](ftp://x) [no](x)", "<p>{link https://x.example/c.png|cat} [no](ftp://x) [no](x)</p>"),
        ("[a [b](https://x.example/) c](https://y.example/)", "<p>[a {link https://x.example/|b} c]({link https://y.example/|https://y.example/})</p>"),
        ("见https://x.example/路，好", "<p>见{link https://x.example/路|https://x.example/路}，好</p>"),
        ("见 https://x.example/a。好", "<p>见 {link https://x.example/a|https://x.example/a}。好</p>"),
    ];

    private static readonly (string Language, string Text, string Pieces)[] s_codes =
    [
        ("csharp", "var s = $\"{a}\"; // no\nFoo.Bar(1.5f);", "word:var string:$\"{a}\" comment:// no type:Foo call:Bar number:1.5f"),
        ("py", "def f(x: int): # c\n    return 'a\\'b'", "word:def call:f type:int comment:# c word:return string:'a\\'b'"),
        ("js", "const a = `x\n${b}` /* c", "word:const string:`x\n${b}` comment:/* c"),
        ("bash", "echo \"$A\" $B ${C} a#b # c", "word:echo string:\"$A\" type:$B type:${C} comment:# c"),
        ("json", "{\"a\": [true, -1e3, \"b\"]}", "key:\"a\" word:true number:1e3 string:\"b\""),
        ("sql", "SELECT a FROM t -- c", "word:SELECT word:FROM comment:-- c"),
        ("html", "<a href=\"x\">t</a><!-- c -->", "word:<a key:href string:\"x\" word:> word:</a word:> comment:<!-- c -->"),
        ("diff", "@@ 1\n-a\n+b\n c", "meta:@@ 1\n removed:-a\n added:+b\n"),
        ("c", "#include <x>\nchar c = '\\n';", "meta:#include type:char string:'\\n'"),
        ("constructor", "a", ""),
        ("nonsense", "var x", ""),
    ];

    [BrowserFact]
    public async Task MarkdownBecomesTheNodesItMeans()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load());
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server);
        JsonElement found = await page.Run($$"""
            (async () => {
                const { MarkdownView } = await import('/page/render.js');
                return {{JsonSerializer.Serialize(s_cases.Select(one => one.Text))}}.map(text => {
                    const view = new MarkdownView();
                    view.update(text);
                    for (const figure of view.node.querySelectorAll('figure'))
                        figure.replaceWith('{code ' + figure.querySelector('figcaption span').textContent + '|', ...figure.querySelector('code').childNodes, '}');
                    for (const table of view.node.querySelectorAll('.table'))
                        table.replaceWith('{table ', ...table.firstChild.childNodes, '}');
                    for (const link of [...view.node.querySelectorAll('a')].reverse())
                        link.replaceWith('{link ' + link.getAttribute('href') + '|', ...link.childNodes, '}');
                    return view.node.innerHTML;
                });
            })()
            """);
        var wrong = new StringBuilder();
        for (int i = 0; i < s_cases.Length; i++)
        {
            string expected = s_cases[i].Nodes.Replace("\\n", "\n", StringComparison.Ordinal);
            if (found[i].GetString() != expected)
                wrong.Append(s_cases[i].Text).Append("\n  expected ").Append(expected).Append("\n  found    ").Append(found[i].GetString()).Append('\n');
        }

        Assert.True(wrong.Length == 0, wrong.ToString());
    }

    [BrowserFact]
    public async Task CodeIsColouredWithoutLosingALetter()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load());
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server);
        JsonElement found = await page.Run($$"""
            (async () => {
                const { highlight } = await import('/page/highlight.js');
                return {{JsonSerializer.Serialize(s_codes.Select(one => new[] { one.Language, one.Text }))}}.map(([language, text]) => {
                    const pieces = highlight(text, language);
                    return [pieces.map(([, piece]) => piece).join(''), pieces.filter(([kind]) => kind !== null).map(piece => piece.join(':')).join(' ')];
                });
            })()
            """);
        for (int i = 0; i < s_codes.Length; i++)
            Assert.Equal((s_codes[i].Text, s_codes[i].Pieces), (found[i][0].GetString()!, found[i][1].GetString()!));
    }

    // A block that is whole keeps its nodes while the text grows.
    [BrowserFact]
    public async Task AGrowingTextTouchesItsLastBlockOnly()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load());
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server);
        Assert.True((await page.Run("""
            import('/page/render.js').then(({ MarkdownView }) => {
                const view = new MarkdownView();
                view.update('# A\n\nOne\n\n- x');
                const [first, second, third] = view.node.children;
                view.update('# A\n\nOne\n\n- x\n- y');
                return view.node.children[0] === first && view.node.children[1] === second && view.node.children[2] !== third && view.node.children.length === 3;
            })
            """)).GetBoolean());
    }
}
