// Runs in a process of its own, in an empty folder: calls each item's method on its cases and prints one line per case.
// Written for whatever signature the model chose: arguments are converted to the parameters' types.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text.Json;
using System.Threading;

public static class QianRunner
{
    public static int Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        TextWriter output = Console.Out;
        Console.SetOut(TextWriter.Null);
        int limit = int.Parse(arguments[1]);
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(arguments[0]));
        foreach (JsonElement item in document.RootElement.EnumerateArray())
        {
            string name = item.GetProperty("item").GetString();
            string wanted = item.GetProperty("method").GetString();
            var cases = item.GetProperty("cases");
            string[] lines = new string[cases.GetArrayLength()];
            int done = 0;
            var worker = new Thread(() =>
            {
                for (int i = 0; i < lines.Length; i++)
                {
                    lines[i] = Outcome(name, wanted, cases[i]);
                    Volatile.Write(ref done, i + 1);
                }
            }, 1 << 24) { IsBackground = true };
            worker.Start();
            Wait(worker, limit);
            int count = Volatile.Read(ref done);
            for (int i = 0; i < lines.Length; i++)
                output.WriteLine(name + "\t" + i + "\t" + (i < count ? lines[i] : "!Timeout"));
            output.Flush();
        }

        // Threads that never end are left behind.
        Environment.Exit(0);
        return 0;
    }

    // The limit is one of computing: on a busy machine an item may wait longer for its turn. Threads of earlier items that never
    // end count against it too; waiting ends in any case.
    private static void Wait(Thread worker, int limit)
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        TimeSpan before = Environment.CpuUsage.TotalTime;
        while (!worker.Join(limit / 20) && clock.ElapsedMilliseconds < 15 * limit)
        {
            if ((Environment.CpuUsage.TotalTime - before).TotalMilliseconds >= limit)
                return;
        }
    }

    private static string Outcome(string item, string wanted, JsonElement arguments)
    {
        try
        {
            MethodInfo method = Find(item, wanted, arguments.GetArrayLength());
            if (method == null)
                return "!NoSuchMethod";
            ParameterInfo[] parameters = method.GetParameters();
            var values = new object[parameters.Length];
            for (int i = 0; i < values.Length; i++)
                values[i] = Convert(arguments[i], parameters[i].ParameterType);
            object target = method.IsStatic ? null : Activator.CreateInstance(method.DeclaringType);
            return "=" + JsonSerializer.Serialize(Plain(method.Invoke(target, values)));
        }
        catch (TargetInvocationException error)
        {
            return "!" + error.InnerException.GetType().Name;
        }
        catch (Exception error)
        {
            return "!" + error.GetType().Name;
        }
    }

    private static MethodInfo Find(string item, string wanted, int count)
    {
        Type[] types = typeof(QianRunner).Assembly.GetTypes().Where(t => t.FullName == item || t.FullName.StartsWith(item + "+") || t.Namespace == item).ToArray();
        MethodInfo[] methods = types.SelectMany(t => t.GetMethods(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly))
            .Where(m => !m.IsSpecialName && !m.Name.Contains('<') && m.GetParameters().Length == count).OrderBy(m => m.MetadataToken).ToArray();
        MethodInfo found = methods.FirstOrDefault(m => m.Name == wanted) ?? methods.FirstOrDefault(m => m.IsPublic) ?? methods.FirstOrDefault();
        return found != null && found.IsGenericMethodDefinition ? found.MakeGenericMethod(found.GetGenericArguments().Select(_ => typeof(int)).ToArray()) : found;
    }

    private static object Convert(JsonElement value, Type type)
    {
        if (type == typeof(string))
            return value.GetString();
        if (type == typeof(char))
            return value.GetString()[0];
        if (value.ValueKind == JsonValueKind.Array)
        {
            Type element = type.IsArray ? type.GetElementType() : type.GetGenericArguments()[0];
            Array items = Array.CreateInstance(element, value.GetArrayLength());
            for (int i = 0; i < items.Length; i++)
                items.SetValue(Convert(value[i], element), i);
            if (type.IsAssignableFrom(items.GetType()))
                return items;
            return Activator.CreateInstance(typeof(List<>).MakeGenericType(element), items);
        }

        return System.Convert.ChangeType(value.GetDouble(), type, CultureInfo.InvariantCulture);
    }

    private static object Plain(object value)
    {
        if (value is char letter)
            return letter.ToString();
        if (value is string || value is null || value is not IEnumerable items)
            return value;
        return items.Cast<object>().Take(10000).Select(Plain).ToArray();
    }
}
