/**
 * Short and pet forms of given names, each group beside the names that it stands for. Plain facts, mostly of English.
 */
const groups = `
abigail abby abbie gail|abraham abe bram|adelaide addie adele|albert al bert bertie|alexander alex alec sandy sasha xander|alexandra alex
lexi sandra sasha|alfred alf alfie fred|alison ali allie|amanda mandy|amelia amy millie|andrea andie|andrew andy drew|angela angie|ann anna
anne annie nan nancy hannah|anthony tony anton|archibald archie|arthur art artie|augustus gus august|barbara barb babs|bartholomew bart|
beatrice bea trixie|benjamin ben benny benji|bernard bernie|beverley bev|bradley brad|bridget biddy bridie|cameron cam|carl charles charlie
chuck chas|caroline carrie lina caro|catherine katherine kathryn kate katie kathy cathy kitty kay|cecilia cecily celia cissy|charlotte
charlie lottie|christina christine chris tina chrissie|christopher chris kit topher|clarence clare|clifford cliff|constance connie|cornelius
connie neil|curtis curt|cynthia cindy|daniel dan danny|danielle dani|david dave davy|deborah debbie deb|dennis denny|derek rick|dominic dom
nick|donald don donny|dorothy dot dottie dolly|douglas doug|edmund ed eddie ned|edward ed eddie ned ted teddy|edwin ed eddie|eleanor ellie
nell nora lenore|elizabeth liz lizzie beth betty betsy eliza elsie lisa libby bess|emily em emmy millie|emma em emmy|ernest ernie|eugene
gene|evelyn eve evie|ferdinand ferdie|florence flo florrie|frances fran francie fanny|francis frank fran|franklin frank|frederick fred
freddie fritz|gabriel gabe|gabrielle gabby|geoffrey jeffrey geoff jeff|george georgie|georgina georgie gina|gerald gerry jerry|gertrude
gertie trudy|gilbert gil bert|gregory greg|gwendolyn gwen wendy|harold harry hal|harriet hattie|helen nell nellie ellen lena|henry harry hank
hal|herbert herb bert|howard howie|hubert bert|hugh hughie|ignatius iggy|irene rene|isaac ike|isabella isabel bella izzy belle|jacob jake|
jacqueline jackie|james jim jimmy jamie|jane janie jenny|janet jan|jason jay|jean jeanie|jennifer jen jenny|jeremiah jerry|jeremy jerry|
jessica jess jessie|joan joanie|joanna joanne jo|john jack johnny jon|jonathan jon jonny nathan|joseph joe joey|josephine jo josie|joshua
josh|joyce joy|judith judy|julia julie jules|kenneth ken kenny|kimberly kim|kristen kris|kurt curt|larry lawrence laurence lars laurie|leonard
len leo lenny|leopold leo|leroy roy|leslie les|lewis louis lou lew|lillian lily|linda lindy|louisa louise lou|lucille lucy|madeline maddie|
malcolm mal|margaret maggie meg peggy marge margie greta rita madge daisy|marian marion|marjorie margie|martha mattie patty|martin marty|mary
maria marie molly polly mamie|matilda tilly maud|matthew matt|maureen mo|maurice morris mo|maximilian max|maxwell max|melanie mel|melissa mel
missy|mercedes mercy|michael mike mick micky mitch|michelle shelly|mildred millie|miriam mimi|mitchell mitch|mohammed muhammad mohamed
mohammad ahmed|nancy nan|natalie nat|natasha tasha|nathaniel nathan nat nate|nicholas nick nico klaus|nicole nicky nikki|norman norm|oliver
ollie|olivia liv livvy|oscar ossie|oswald oz ozzie|pamela pam|patricia pat patty tricia trish|patrick pat paddy|pauline polly|penelope penny|
percival percy|peter pete|philip phil pip|philippa pippa|phyllis phyl|priscilla cilla|prudence prue|rachel ray|randolph randy|raymond ray|
rebecca becky becca|reginald reg reggie|richard dick rick ricky rich|robert bob bobby rob robbie bert|roberta bobbie|rodney rod|roger rodge|
roland rollo|ronald ron ronnie|rosalind ros rosie|rosemary rose rosie|rudolph rudy|rupert rob|russell russ|samantha sam sammy|samuel sam
sammy|sarah sally sadie|sebastian seb bastian|shirley shirl|sidney sid|simon si|solomon sol|sophia sophie|stanley stan|stephanie steph|stephen
steven steve stevie|stuart stew|susan susanna suzanne sue susie|sylvester sly|sylvia syl|tabitha tabby|teresa theresa terry tess tessa|
terence terry|theodore ted teddy theo|thomas tom tommy|timothy tim timmy|tobias toby|valerie val|vanessa nessa|veronica ronnie vera|victor
vic|victoria vicky tori|vincent vince vinnie|violet vi|virginia ginny|vivian viv|walter walt wally|wendy wen|wilfred wilf fred|wilhelmina
mina billie|william bill billy will willy liam|winifred winnie|winston win|yvonne vonnie|zachary zach zack|
francisco paco pancho|jose pepe|guadalupe lupe|ignacio nacho|dolores lola|isabel chabela|johannes hans hannes johann|josef sepp|friedrich
fritz|ludwig lutz|elisabeth lisbeth elsa ilse liesl|katharina kathi katja|maximilian maxi|sebastian basti|aleksandr sasha shura|yekaterina
katya|mikhail misha|vladimir volodya vova|dmitri dima mitya|nikolai kolya|anastasia nastya
`;

const groupsOf = new Map<string, Set<number>>();
for (const [index, group] of groups.split("|").entries())
  for (const name of group.trim().split(/\s+/)) groupsOf.set(name, (groupsOf.get(name) ?? new Set()).add(index));

/** Whether both names may be of one person, such as William and Bill. Both are folded. */
export function areForms(one: string, other: string): boolean {
  const [of, others] = [groupsOf.get(one), groupsOf.get(other)];
  return of !== undefined && others !== undefined && [...of].some((group) => others.has(group));
}
