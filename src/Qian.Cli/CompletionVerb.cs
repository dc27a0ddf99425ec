using System.CommandLine;

namespace Qian.Cli;

// qian completion SHELL: a script that asks the program itself for suggestions, so that it never goes stale.
internal static class CompletionVerb
{
    private const string Bash = """
        # qian completion bash >> ~/.bashrc
        _qian() {
            local IFS=$'\n'
            COMPREPLY=( $(qian "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null) )
            [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=( $(compgen -f -- "${COMP_WORDS[COMP_CWORD]}") )
        }
        complete -o filenames -F _qian qian
        """;

    private const string Zsh = """
        # qian completion zsh >> ~/.zshrc
        _qian() {
            local -a suggestions
            suggestions=("${(@f)$(qian "[suggest:${CURSOR}]" "${BUFFER}" 2>/dev/null)}")
            compadd -a suggestions
            _files
        }
        compdef _qian qian
        """;

    private const string Fish = """
        # qian completion fish > ~/.config/fish/completions/qian.fish
        complete -c qian -a '(set -l line (commandline -cp); qian "[suggest:"(string length -- "$line")"]" "$line" 2>/dev/null)'
        """;

    private const string PowerShell = """
        # qian completion powershell >> $PROFILE
        Register-ArgumentCompleter -Native -CommandName qian -ScriptBlock {
            param($word, $ast, $position)
            qian "[suggest:$position]" "$ast" 2>$null | ForEach-Object { [System.Management.Automation.CompletionResult]::new($_) }
        }
        """;

    public static Command Create()
    {
        var shell = new Argument<string>("SHELL") { Description = "bash, zsh, fish or powershell" };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish", "powershell");
        var command = new Command("completion", "Print a completion script for a shell") { shell };
        command.SetAction(parsed =>
        {
            Console.WriteLine(parsed.GetValue(shell) switch
            {
                "zsh" => Zsh,
                "fish" => Fish,
                "powershell" => PowerShell,
                _ => Bash,
            });
            return Program.Done;
        });
        return command;
    }
}
