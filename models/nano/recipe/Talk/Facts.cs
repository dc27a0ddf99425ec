namespace Qian.Nano;

// Fewer than 200 facts, as question parts and answers: enough that it can be asked something, few enough to be known.
internal static class Facts
{
    public static (string Subject, string[] Questions, string Answer)[] All { get; } =
    [
        .. Of("capital", ["What is the capital of {x}?", "Which city is the capital of {x}?", "Name the capital of {x}.", "Capital of {x}?", "Tell me the capital of {x}.", "Do you know the capital of {x}?", "{x}: which city is its capital?"], "The capital of {x} is {y}.",
            "France=Paris,Germany=Berlin,Italy=Rome,Spain=Madrid,Portugal=Lisbon,Austria=Vienna,Poland=Warsaw,Greece=Athens,Norway=Oslo,Sweden=Stockholm,Finland=Helsinki,Denmark=Copenhagen,Ireland=Dublin,Hungary=Budapest,Japan=Tokyo,China=Beijing,India=New Delhi,Egypt=Cairo,Kenya=Nairobi,Canada=Ottawa,Cuba=Havana,Peru=Lima,Chile=Santiago,Brazil=Brasilia,Argentina=Buenos Aires,Australia=Canberra,Turkey=Ankara,Russia=Moscow,Ukraine=Kyiv,Romania=Bucharest,Bulgaria=Sofia,Serbia=Belgrade,Croatia=Zagreb,Iceland=Reykjavik,Thailand=Bangkok,Vietnam=Hanoi,Mongolia=Ulaanbaatar,Nepal=Kathmandu,Iran=Tehran,Iraq=Baghdad,Morocco=Rabat,Ghana=Accra,Mexico=Mexico City,Belgium=Brussels,Switzerland=Bern,the Netherlands=Amsterdam,South Korea=Seoul,the United Kingdom=London,the United States=Washington,New Zealand=Wellington"),
        .. Of("days", ["How many days does {x} have?", "How many days are there in {x}?", "Number of days in {x}?", "How long is {x} in days?"], "{x} has {y} days.", "January=31,March=31,April=30,May=31,June=30,July=31,August=31,September=30,October=31,November=30,December=31,a week=7,a normal year=365,a leap year=366"),
        .. Of("legs", ["How many legs does {x} have?", "Number of legs of {x}?", "Tell me how many legs {x} has.", "How many legs has {x} got?"], "{x} has {y} legs.", "a dog=four,a cat=four,a horse=four,a spider=eight,an ant=six,a bee=six,a bird=two,a hen=two,a cow=four,a beetle=six,a crab=ten"),
        .. Of("unit", ["How many {x}?", "Tell me how many {x}.", "Do you know how many {x}?"], "It is {y}.", "meters are in a kilometer=1000,centimeters are in a meter=100,millimeters are in a centimeter=10,grams are in a kilogram=1000,minutes are in an hour=60,seconds are in a minute=60,hours are in a day=24,months are in a year=12,weeks are in a year=52,bits are in a byte=8,bytes are in a kibibyte=1024,years are in a century=100,years are in a decade=10,items are in a dozen=12,degrees are in a circle=360,degrees are in a right angle=90,sides has a triangle=3,sides has a square=4,sides has a hexagon=6,sides has a pentagon=5,letters are in the English alphabet=26,continents are there=7,planets are in the solar system=8,strings has a violin=4,players has a football team=11,cards are in a deck=52,keys has a piano=88,sides has a cube=6"),
        .. Of("symbol", ["What is the chemical symbol of {x}?", "Chemical symbol for {x}?", "Which symbol stands for {x} in chemistry?", "Tell me the chemical symbol of {x}."], "The chemical symbol of {x} is {y}.", "hydrogen=H,helium=He,carbon=C,nitrogen=N,oxygen=O,sodium=Na,iron=Fe,copper=Cu,silver=Ag,gold=Au,lead=Pb,tin=Sn,zinc=Zn,calcium=Ca,potassium=K,sulfur=S,neon=Ne,mercury=Hg"),
        .. Of("opposite", ["What is the opposite of {x}?", "Opposite of {x}?", "Which word means the opposite of {x}?", "Tell me the opposite of {x}."], "The opposite of {x} is {y}.", "hot=cold,big=small,fast=slow,high=low,old=young,early=late,open=closed,full=empty,light=dark,hard=soft,wet=dry,long=short,left=right,up=down,rich=poor,strong=weak,happy=sad,first=last"),
        .. Of("color", ["What color is {x}?", "Which color has {x}?", "Tell me the color of {x}.", "Color of {x}?"], "{x} is {y}.", "grass=green,snow=white,coal=black,blood=red,a banana=yellow,a carrot=orange,milk=white,an emerald=green,a ruby=red"),
        .. Of("next", ["Which day comes after {x}?", "What day follows {x}?", "The day after {x}?", "Tell me the day after {x}."], "After {x} comes {y}.", "Monday=Tuesday,Tuesday=Wednesday,Wednesday=Thursday,Thursday=Friday,Friday=Saturday,Saturday=Sunday,Sunday=Monday"),
        .. Of("inventor", ["Who wrote {x}?", "Who is the author of {x}?", "Name the author of {x}.", "Author of {x}?"], "{y} wrote {x}.", "Hamlet=Shakespeare,Faust=Goethe,the Odyssey=Homer,War and Peace=Tolstoy,Don Quixote=Cervantes,Emma=Jane Austen,Ulysses=James Joyce,Macbeth=Shakespeare,Oliver Twist=Charles Dickens"),
        .. Of("home", ["In which country is {x}?", "Where is {x}?", "Which country is {x} in?", "{x} is in which country?"], "{x} is in {y}.", "the Eiffel Tower=France,the Colosseum=Italy,the Acropolis=Greece,Mount Fuji=Japan,the Great Wall=China,Big Ben=England,the Kremlin=Russia,Machu Picchu=Peru,the Taj Mahal=India,the Louvre=France"),
        .. Of("baby", ["What do you call the young of {x}?", "What is a young {x} called?", "Name for a young {x}?"], "It is called a {y}.", "dog=puppy,cat=kitten,cow=calf,sheep=lamb,horse=foal,hen=chick,bear=cub,duck=duckling"),
    ];

    private static IEnumerable<(string, string[], string)> Of(string kind, string[] questions, string answer, string table)
    {
        foreach (string row in table.Split(','))
        {
            string[] pair = row.Split('=');
            string text = answer.Replace("{x}", pair[0], StringComparison.Ordinal).Replace("{y}", pair[1], StringComparison.Ordinal);
            yield return ($"{kind} {pair[0]}", [.. questions.Select(question => question.Replace("{x}", pair[0], StringComparison.Ordinal))], char.ToUpperInvariant(text[0]) + text[1..]);
        }
    }
}
