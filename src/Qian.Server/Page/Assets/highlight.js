// Code to coloured pieces: one scanner, a row of a table per language. It knows comments, strings, numbers, keywords, types and
// calls, which is what the eye looks for; it does not parse. One pass, and no pattern that could run back over what it has read.

const words = text => new Set(text.split(' '));

const cWords = 'break case const continue default do else enum extern for goto if inline return sizeof static struct switch typedef union volatile while';
const cTypes = 'auto bool char double float int long short signed size_t unsigned void int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t';
const slashes = { line: ['//'], block: [['/*', '*/']], strings: ['"', "'"] };

const tables = {
    __proto__: null,
    csharp: { ...slashes, strings: ['"""', '"', "'"], prefix: /^[$@]+(?=")/, words: words('abstract as async await base break case catch checked class const continue default delegate do else enum event explicit extern false file finally fixed for foreach get global goto if implicit in init interface internal is lock namespace new not null operator or and out override params partial private protected public readonly record ref required return sealed set sizeof stackalloc static struct switch this throw true try typeof unchecked unsafe using value var virtual volatile when where while with yield'), types: words('bool byte char decimal double dynamic float int long nint nuint object sbyte short string uint ulong ushort void') },
    javascript: { ...slashes, strings: ['"', "'", '`'], words: words('abstract as async await break case catch class const continue debugger default delete do else enum export extends false finally for from function get if implements import in instanceof interface keyof let namespace new null of private protected public readonly return satisfies set static super switch this throw true try type typeof undefined var void while with yield'), types: words('any bigint boolean never number object string symbol unknown') },
    python: { line: ['#'], block: [], strings: ['"""', "'''", '"', "'"], prefix: /^[rRbBfFuU]{1,2}(?=["'])/, words: words('and as assert async await break case class continue def del elif else except False finally for from global if import in is lambda match None nonlocal not or pass raise return self True try while with yield'), types: words('bool bytes dict float int list object set str tuple') },
    java: { ...slashes, strings: ['"""', '"', "'"], words: words('abstract assert break case catch class const continue default do else enum extends false final finally for fun if implements import in instanceof interface native new null object override package permits private protected public record return sealed static super switch synchronized this throw throws transient true try val var void volatile when while yield'), types: words('boolean byte char double float int long short Boolean Double Int Integer List Long Map String') },
    c: { ...slashes, meta: '#', words: words(cWords + ' NULL true false'), types: words(cTypes) },
    cpp: { ...slashes, meta: '#', words: words(cWords + ' alignas and catch class co_await co_return co_yield concept consteval constexpr constinit const_cast decltype delete dynamic_cast explicit export false final friend mutable namespace new noexcept not nullptr operator or override private protected public reinterpret_cast requires static_assert static_cast template this throw true try typename using virtual'), types: words(cTypes + ' string vector map') },
    go: { ...slashes, strings: ['"', "'", '`'], words: words('break case chan const continue default defer else fallthrough false for func go goto if import interface iota map nil package range return select struct switch true type var'), types: words('any bool byte complex128 error float32 float64 int int8 int16 int32 int64 rune string uint uint8 uint16 uint32 uint64 uintptr') },
    rust: { ...slashes, strings: ['"'], words: words('as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self Self static struct super trait true type unsafe use where while'), types: words('bool char f32 f64 i8 i16 i32 i64 i128 isize str String u8 u16 u32 u64 u128 usize Box Option Result Vec') },
    swift: { ...slashes, strings: ['"""', '"'], words: words('as async await break case catch class continue default defer do else enum extension false for func guard if import in init inout internal is let nil override private protocol public return self static struct super switch throw throws true try var where while'), types: words('Any Bool Character Double Float Int String Void') },
    shell: { line: ['#'], block: [], strings: ['"', "'"], variable: '$', words: words('case do done elif else esac export fi for function if in local return set then until while cd echo exit source sudo') , types: words('') },
    sql: { line: ['--'], block: [['/*', '*/']], strings: ["'", '"'], anyCase: true, words: words('add all alter and as asc begin between by case check column commit constraint create cross default delete desc distinct drop else end exists foreign from full group having if in index inner insert into is join key left like limit not null offset on or order outer over partition primary references returning right rollback select set table then transaction union unique update using values view when where with'), types: words('bigint boolean char date decimal float int integer json numeric real serial smallint text time timestamp uuid varchar') },
    json: { line: ['//'], block: [], strings: ['"'], keys: true, words: words('true false null'), types: words('') },
    yaml: { line: ['#'], block: [], strings: ['"', "'"], keys: true, words: words('true false null yes no on off'), types: words('') },
    toml: { line: ['#'], block: [], strings: ['"""', "'''", '"', "'"], keys: true, words: words('true false'), types: words('') },
    css: { line: [], block: [['/*', '*/']], strings: ['"', "'"], keys: true, words: words('important media supports import layer container keyframes font-face from to and not'), types: words('') },
    markup: { isMarkup: true },
    diff: { isDiff: true },
};

const names = {
    __proto__: null,
    'c#': 'csharp', cs: 'csharp', 'f#': 'csharp', js: 'javascript', mjs: 'javascript', jsx: 'javascript', ts: 'javascript', tsx: 'javascript', typescript: 'javascript', py: 'python', python3: 'python',
    kotlin: 'java', kt: 'java', scala: 'java', h: 'c', 'c++': 'cpp', cc: 'cpp', hpp: 'cpp', cuda: 'cpp', golang: 'go', rs: 'rust', sh: 'shell', bash: 'shell', zsh: 'shell', console: 'shell', powershell: 'shell', ps1: 'shell',
    dockerfile: 'shell', makefile: 'shell', jsonc: 'json', json5: 'json', yml: 'yaml', ini: 'toml', scss: 'css', less: 'css', html: 'markup', xml: 'markup', svg: 'markup', xaml: 'markup', csproj: 'markup', vue: 'markup', patch: 'diff',
};

const longest = 200_000;
const wordAt = /[\p{L}_][\p{L}\p{N}_]*/uy;
const cssWordAt = /[A-Za-z_-][\w-]*/y;
const numberAt = /0[xX][\da-fA-F_]+|0[bB][01_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?[a-zA-Z%]{0,3}/y;

// [kind, text] pieces that put together give the text; kind is null, 'comment', 'string', 'number', 'word', 'type', 'call', 'key', 'meta', 'added' or 'removed'.
export function highlight(text, language) {
    const table = tables[names[language] ?? language];
    if (!table || text.length > longest)
        return [[null, text]];
    return table.isDiff ? diff(text) : table.isMarkup ? markup(text) : scan(text, table);
}

function scan(text, table) {
    const pieces = [];
    let plainFrom = 0, at = 0;
    const take = (kind, end) => {
        if (plainFrom < at)
            pieces.push([null, text.slice(plainFrom, at)]);
        pieces.push([kind, text.slice(at, end)]);
        plainFrom = at = end;
    };
    const word = table === tables.css ? cssWordAt : wordAt;
    while (at < text.length) {
        const letter = text[at];
        const line = table.line.find(mark => text.startsWith(mark, at));
        const block = table.block.find(([open]) => text.startsWith(open, at));
        if (line && (line !== '#' || at === 0 || /\s/.test(text[at - 1]) || table === tables.python))
            take('comment', endOf(text, '\n', at, false));
        else if (block)
            take('comment', endOf(text, block[1], at + block[0].length, true));
        else if (table.meta === letter && isLineStart(text, at))
            take('meta', wordEnd(text, at + 1));
        else if (table.prefix && table.prefix.test(text.slice(at, at + 3)) && (at === 0 || !/\w/.test(text[at - 1])))
            take('string', stringEnd(text, at + table.prefix.exec(text.slice(at, at + 3))[0].length, table));
        else if (table.strings.some(mark => text.startsWith(mark, at))) {
            const end = stringEnd(text, at, table);
            take(table.keys && /^\s{0,8}:/.test(text.slice(end, end + 9)) ? 'key' : 'string', end);
        } else if (table.variable === letter)
            take('type', text[at + 1] === '{' ? endOf(text, '}', at, true) : wordEnd(text, at + 1));
        else if (letter >= '0' && letter <= '9') {
            numberAt.lastIndex = at;
            take('number', at + numberAt.exec(text)[0].length);
        } else {
            word.lastIndex = at;
            const match = word.exec(text);
            if (match) {
                const kind = kindOf(match[0], text, at, table);
                if (kind)
                    take(kind, at + match[0].length);
                else
                    at += match[0].length;
            } else
                at++;
        }
    }
    if (plainFrom < at)
        pieces.push([null, text.slice(plainFrom, at)]);
    return pieces;
}

function kindOf(found, text, at, table) {
    const word = table.anyCase ? found.toLowerCase() : found;
    if (table.words.has(word) && text[at - 1] !== '.')
        return 'word';
    if (table.types.has(word))
        return 'type';
    const next = text[at + found.length];
    if (table.keys)
        return next === ':' || next === ' ' && text[at + found.length + 1] === '=' || next === '=' ? 'key' : null;
    if (next === '(')
        return 'call';
    if (text[at - 1] === '.')
        return null;
    return /^\p{Lu}\p{L}*\p{Ll}/u.test(found) && table !== tables.shell && table !== tables.sql ? 'type' : null;
}

function stringEnd(text, at, table) {
    const mark = table.strings.find(one => text.startsWith(one, at));
    if (!mark)
        return at;
    const spansLines = mark.length === 3 || mark === '`' || table === tables.shell;
    for (let end = at + mark.length; end < text.length; end++) {
        if (text[end] === '\\')
            end++;
        else if (text[end] === '\n' && !spansLines)
            return end;
        else if (text.startsWith(mark, end))
            return end + mark.length;
    }
    return text.length;
}

function markup(text) {
    const pieces = [];
    let at = 0;
    while (at < text.length) {
        if (text.startsWith('<!--', at)) {
            const end = endOf(text, '-->', at, true);
            pieces.push(['comment', text.slice(at, end)]);
            at = end;
        } else if (text[at] === '<' && /[A-Za-z/!?]/.test(text[at + 1] ?? '')) {
            const end = endOf(text, '>', at, true);
            tag(text.slice(at, end), pieces);
            at = end;
        } else {
            const next = text.indexOf('<', at + 1);
            const end = next < 0 ? text.length : next;
            pieces.push([null, text.slice(at, end)]);
            at = end;
        }
    }
    return pieces;
}

function tag(text, pieces) {
    const name = /^<[/!?]?[\w:.-]*/.exec(text)[0];
    pieces.push(['word', name]);
    for (const part of text.slice(name.length).match(/"[^"]*"?|'[^']*'?|[\w:.@-]+|[^"'\w:.@-]+/g) ?? [])
        pieces.push([part[0] === '"' || part[0] === "'" ? 'string' : /^[\w:.@-]/.test(part) ? 'key' : part.startsWith('>') || part === '/>' ? 'word' : null, part]);
}

function diff(text) {
    return text.split(/(?<=\n)/).map(line => [line.startsWith('@@') || line.startsWith('diff ') || /^(\+\+\+|---) /.test(line) ? 'meta' : line[0] === '+' ? 'added' : line[0] === '-' ? 'removed' : null, line]);
}

function endOf(text, mark, from, isIncluded) {
    const end = text.indexOf(mark, from);
    return end < 0 ? text.length : isIncluded ? end + mark.length : end;
}

function wordEnd(text, at) {
    while (at < text.length && /[\w]/.test(text[at]))
        at++;
    return at;
}

function isLineStart(text, at) {
    while (at > 0 && (text[at - 1] === ' ' || text[at - 1] === '\t'))
        at--;
    return at === 0 || text[at - 1] === '\n';
}
