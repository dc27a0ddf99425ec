System.Console.WriteLine("qian");
